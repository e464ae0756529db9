"""Every address in one list, each with who may use it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler

from pixie_proxy.web import files, gallery, images, login, metrics, models, ops, pages, thumbnails
from pixie_proxy.web.auth import Access, guarded
from pixie_proxy.web.static import static


class Route(NamedTuple):
    """One address. A route without an access does not exist, so none can be open by accident."""

    method: str
    path: str
    handler: Handler
    access: Access


ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/images/generations", images.generations, "maker"),
    Route("POST", "/v1/images/edits", images.edits, "maker"),
    Route("POST", "/v1/images/variations", images.variations, "maker"),
    Route("GET", "/v1/models", models.list_models, "user"),
    Route("GET", "/v1/models/{model}", models.get_model, "user"),
    Route("GET", "/v1/me", gallery.me, "user"),
    Route("GET", "/v1/images", gallery.list_images, "user"),
    Route("GET", "/v1/images/{id}", gallery.get_image, "user"),
    Route("POST", "/v1/images/{id}", gallery.change_image, "maker"),
    Route("DELETE", "/v1/images/{id}", gallery.delete_image, "maker"),
    Route("GET", "/v1/images/{id}/content", files.content, "user"),
    Route("GET", "/v1/images/{id}/thumbnail", thumbnails.thumbnail, "user"),
    Route("POST", "/v1/images/{id}/restore", gallery.restore_image, "maker"),
    Route("GET", "/i/{name}", files.linked, "open"),
    Route("GET", "/", pages.gallery, "page"),
    Route("GET", "/images/{id}", pages.image, "page"),
    Route("POST", "/images/{id}/visibility", pages.set_visibility, "maker page"),
    Route("POST", "/images/{id}/delete", pages.delete, "maker page"),
    Route("POST", "/images/{id}/restore", pages.restore, "maker page"),
    Route("GET", "/login", login.login_page, "open"),
    Route("POST", "/login", login.login, "open"),
    Route("POST", "/logout", login.logout, "page"),
    Route("GET", "/static/{name}", static, "open"),
    Route("GET", "/healthz", ops.healthz, "open"),
    Route("GET", "/readyz", ops.readyz, "open"),
    Route("GET", "/metrics", metrics.metrics, "admin"),
)


def build(routes: Iterable[Route] = ROUTES) -> list[web.RouteDef]:
    """Make aiohttp's routes; GET answers HEAD as well."""
    return [
        web.get(_pattern(route.path), guarded(route.handler, route.access))
        if route.method == "GET"
        else web.route(route.method, _pattern(route.path), guarded(route.handler, route.access))
        for route in routes
    ]


def _pattern(path: str) -> str:
    """Keep the page of an image apart from /images/generations, which an SDK asks for whose base URL lacks its /v1."""
    return path.replace("{id}", "{id:img_[^/]+}") if path.startswith("/images/") else path
