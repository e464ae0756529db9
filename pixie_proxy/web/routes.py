"""Every address in one list, each with who may use it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler

from pixie_proxy.web import (
    admin,
    balance,
    bulk,
    collections,
    estimate,
    export,
    files,
    gallery,
    images,
    installed,
    ledger,
    login,
    metrics,
    models,
    ops,
    public,
    shared,
    shares,
    thumbnails,
    usage,
)
from pixie_proxy.web.auth import Access, guarded
from pixie_proxy.web.context import context_of
from pixie_proxy.web.openapi.handler import openapi
from pixie_proxy.web.pages import admin as admin_page
from pixie_proxy.web.pages import create, image, people, wall
from pixie_proxy.web.pages import usage as usage_page
from pixie_proxy.web.static import static


class Route(NamedTuple):
    """One address. A route without an access does not exist, so none can be open by accident.

    A handler is cancelled when its client leaves. Paid calls know what to do then; all others are brought to their end
    first, so that no change is made by half and no file is left open.
    """

    method: str
    path: str
    handler: Handler
    access: Access
    is_paid: bool = False


ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/images/generations", images.generations, "maker", is_paid=True),
    Route("POST", "/v1/images/edits", images.edits, "maker", is_paid=True),
    Route("POST", "/v1/images/variations", images.variations, "maker", is_paid=True),
    Route("POST", "/v1/images/estimate", estimate.estimate, "user"),
    Route("GET", "/v1/models", models.list_models, "user"),
    Route("GET", "/v1/models/{model}", models.get_model, "user"),
    Route("GET", "/v1/me", gallery.me, "user"),
    Route("GET", "/v1/credits/balance", balance.balance, "user"),
    Route("GET", "/v1/requests", ledger.list_requests, "user"),
    Route("GET", "/v1/requests/{id}", ledger.get_request, "user"),
    Route("GET", "/v1/usage", usage.get_usage, "user"),
    Route("GET", "/v1/admin/users", admin.list_users, "admin"),
    Route("POST", "/v1/admin/users", admin.add_user, "admin"),
    Route("GET", "/v1/admin/users/{user}", admin.get_user, "admin"),
    Route("POST", "/v1/admin/users/{user}", admin.change_user, "admin"),
    Route("DELETE", "/v1/admin/users/{user}", admin.delete_user, "admin"),
    Route("GET", "/v1/admin/keys", admin.list_keys, "admin"),
    Route("POST", "/v1/admin/keys", admin.add_key, "admin"),
    Route("POST", "/v1/admin/keys/{key}", admin.change_key, "admin"),
    Route("POST", "/v1/admin/keys/{key}/rotate", admin.rotate_key, "admin"),
    Route("DELETE", "/v1/admin/keys/{key}", admin.revoke_key, "admin"),
    Route("GET", "/v1/admin/acts", admin.list_acts, "admin"),
    Route("GET", "/v1/images", gallery.list_images, "user"),
    Route("GET", "/v1/images/export", export.export, "user"),
    Route("POST", "/v1/images/bulk", bulk.change_images, "maker"),
    Route("GET", "/v1/images/{id}", gallery.get_image, "user"),
    Route("POST", "/v1/images/{id}", gallery.change_image, "maker"),
    Route("DELETE", "/v1/images/{id}", gallery.delete_image, "maker"),
    Route("GET", "/v1/images/{id}/content", files.content, "user"),
    Route("GET", "/v1/images/{id}/thumbnail", thumbnails.thumbnail, "user"),
    Route("POST", "/v1/images/{id}/restore", gallery.restore_image, "maker"),
    Route("POST", "/v1/images/{id}/shares", shares.make, "maker"),
    Route("GET", "/v1/images/{id}/shares", shares.listed, "user"),
    Route("DELETE", "/v1/images/{id}/shares/{share}", shares.revoke, "maker"),
    Route("POST", "/v1/images/{id}/favorite", gallery.like_image, "user"),
    Route("DELETE", "/v1/images/{id}/favorite", gallery.unlike_image, "user"),
    Route("GET", "/v1/collections", collections.list_collections, "user"),
    Route("POST", "/v1/collections", collections.add_collection, "maker"),
    Route("GET", "/v1/collections/{collection}", collections.get_collection, "user"),
    Route("POST", "/v1/collections/{collection}", collections.change_collection, "maker"),
    Route("DELETE", "/v1/collections/{collection}", collections.delete_collection, "maker"),
    Route("POST", "/v1/collections/{collection}/images", collections.fill_collection, "maker"),
    Route("GET", "/i/{name}", files.linked, "open"),
    Route("GET", "/s/{token}", shared.share_page, "open"),
    Route("POST", "/s/{token}", shared.unlock, "open"),
    Route("GET", "/s/{token}/content", shared.content, "open"),
    Route("GET", "/s/{token}/thumbnail", shared.thumbnail, "open"),
    Route("GET", "/public", public.wall, "open"),
    Route("GET", "/public/{id}", public.image, "open"),
    Route("GET", "/public/{id}/content", public.content, "open"),
    Route("GET", "/public/{id}/thumbnail", public.thumbnail, "open"),
    Route("GET", "/", wall.wall, "page"),
    Route("GET", "/create", create.create, "maker page"),
    Route("GET", "/usage", usage_page.usage, "page"),
    Route("GET", "/admin", admin_page.admin, "admin page"),
    Route("GET", "/admin/people", people.people, "admin page"),
    Route("GET", "/admin/people/{user}", people.person, "admin page"),
    Route("GET", "/admin/acts", admin_page.log_of_acts, "admin page"),
    Route("GET", "/images/{id}", image.image, "page"),
    Route("POST", "/images/{id}/visibility", image.set_visibility, "maker page"),
    Route("POST", "/images/{id}/delete", image.delete, "maker page"),
    Route("POST", "/images/{id}/restore", image.restore, "maker page"),
    Route("POST", "/images/{id}/shares", shares.make_by_form, "maker page"),
    Route("POST", "/images/{id}/shares/{share}/revoke", shares.revoke_by_form, "maker page"),
    Route("GET", "/login", login.login_page, "open"),
    Route("POST", "/login", login.login, "open"),
    Route("POST", "/logout", login.logout, "page"),
    Route("GET", "/static/{version}/{name}", static, "open"),
    Route("GET", "/manifest.webmanifest", installed.manifest, "open"),
    Route("GET", "/worker.js", installed.worker, "open"),
    Route("GET", "/offline", installed.offline, "open"),
    Route("POST", "/create/incoming", installed.incoming, "open"),
    Route("GET", "/healthz", ops.healthz, "open"),
    Route("GET", "/readyz", ops.readyz, "open"),
    Route("GET", "/metrics", metrics.metrics, "admin key"),
    Route("GET", "/openapi.json", openapi, "admin key"),
)


def build(routes: Iterable[Route] = ROUTES) -> list[web.RouteDef]:
    """Make aiohttp's routes; GET answers HEAD as well."""
    return [
        web.get(_pattern(route.path), _handler(route))
        if route.method == "GET"
        else web.route(route.method, _pattern(route.path), _handler(route))
        for route in routes
    ]


def _handler(route: Route) -> Handler:
    handler = guarded(route.handler, route.access)
    if route.is_paid:
        return handler

    async def run(request: web.Request) -> web.StreamResponse | Exception:
        try:
            return await handler(request)
        except Exception as exc:  # noqa: BLE001 - it is raised to whoever is still there
            return exc

    async def finish(request: web.Request) -> web.StreamResponse:
        done = await asyncio.shield(context_of(request).handlers.run(run(request), route.path))
        if isinstance(done, Exception):
            raise done
        return done

    return finish


def _pattern(path: str) -> str:
    """Keep the page of an image apart from /images/generations, which an SDK asks for whose base URL lacks its /v1."""
    return path.replace("{id}", "{id:img_[^/]+}") if path.startswith("/images/") else path
