"""Put /openapi.json together: the list of routes says what there is and for whom, the subjects say the rest."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pixie_proxy import __version__
from pixie_proxy.config import Settings
from pixie_proxy.web.auth import CSRF_HEADER, Access
from pixie_proxy.web.cookies import cookie_name
from pixie_proxy.web.openapi.answers import ERROR, UPSTREAM_ERROR, answers
from pixie_proxy.web.openapi.health import HEALTH
from pixie_proxy.web.openapi.images import IMAGES
from pixie_proxy.web.openapi.making import MAKING
from pixie_proxy.web.openapi.models import MODELS
from pixie_proxy.web.openapi.money import MONEY
from pixie_proxy.web.openapi.organising import ORGANISING
from pixie_proxy.web.openapi.people import PEOPLE
from pixie_proxy.web.openapi.words import Operation, Schema, Subject, content_of
from pixie_proxy.web.routes import ROUTES, Route

SUBJECTS = (MAKING, MODELS, IMAGES, ORGANISING, MONEY, PEOPLE, HEALTH)
FOR_BROWSERS = frozenset(
    {
        "/login",
        "/static/{version}/{name}",
        "/manifest.webmanifest",
        "/worker.js",
        "/offline",
        "/create/incoming",
        "/s/{token}",
        "/s/{token}/content",
        "/s/{token}/thumbnail",
        "/public",
        "/public/{id}",
        "/public/{id}/content",
        "/public/{id}/thumbnail",
    }
)
"""Open addresses that are described nowhere, just as those for whoever is signed in: no program asks for pages."""

_ABOUT = (
    "A proxy for OpenAI's image API that keeps every image. Every GET answers HEAD as well. Errors have OpenAI's "
    "envelope; an address that is asked with another method answers with 405 `method_not_allowed`, and any other "
    "address with 404 `unknown_url`."
)
_WHO: Mapping[Access, str] = {
    "open": "For anyone.",
    "user": "For any key.",
    "maker": "For admins and members.",
    "admin": "For admins.",
    "admin key": "For an admin's key; a session's cookie does not do.",
}
_REQUEST_ID: Mapping[str, Any] = {
    "description": "What this request is called in the log.",
    "schema": {"type": "string"},
}


def document(settings: Settings, base_url: str) -> dict[str, Any]:
    """Describe every address that programs use, as OpenAPI 3.1 does. Raises KeyError for one that no subject knows."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        if is_described(route):
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, settings)
    return {
        "openapi": "3.1.0",
        "info": {"title": "pixie_proxy", "version": __version__, "description": _ABOUT},
        "servers": [{"url": base_url}],
        "tags": [{"name": subject.tag} for subject in SUBJECTS],
        "paths": paths,
        "components": {
            "schemas": {
                "Error": ERROR,
                "UpstreamError": UPSTREAM_ERROR,
                **{name: schema for subject in SUBJECTS for name, schema in subject.schemas.items()},
            },
            "headers": {"x-request-id": _REQUEST_ID},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": cookie_name(settings)},
                "csrf": {"type": "apiKey", "in": "header", "name": CSRF_HEADER},
            },
        },
    }


def is_described(route: Route) -> bool:
    """Tell whether a route is for programs."""
    return route.access in _WHO and route.path not in FOR_BROWSERS


def _operation(route: Route, settings: Settings) -> dict[str, Any]:
    subject, operation = _find(f"{route.method} {route.path}")
    doc = inspect.getdoc(route.handler) or ""
    return {
        "operationId": route.handler.__name__,
        "tags": [subject.tag],
        "summary": doc.partition(". ")[0].partition("\n")[0].rstrip("."),
        "description": f"{doc} {_WHO[route.access]}",
        "security": _security(route),
        "parameters": _parameters(route, subject, operation, settings),
        **(
            {"requestBody": {"required": True, "content": content_of(operation.body)}}
            if operation.body
            else {}
        ),
        "responses": answers(route, operation),
    }


def _find(address: str) -> tuple[Subject, Operation]:
    for subject in SUBJECTS:
        if address in subject.operations:
            return subject, subject.operations[address]
    raise KeyError(address)


def _security(route: Route) -> list[dict[str, list[str]]]:
    """Say what opens a route: a key, or a cookie with which a change wants a token."""
    if route.access == "open":
        return []
    cookie: dict[str, list[str]] = {"session": []} if route.method == "GET" else {"session": [], "csrf": []}
    return [{"key": []}] if route.access == "admin key" else [{"key": []}, cookie]


def _parameters(
    route: Route, subject: Subject, operation: Operation, settings: Settings
) -> list[dict[str, Any]]:
    query = {name: said(settings) if callable(said) else said for name, said in operation.query.items()}
    holes = {name: schema for name, schema in subject.holes.items() if f"{{{name}}}" in route.path}
    return [
        *[_parameter(name, "path", schema, needed=True) for name, schema in holes.items()],
        *[
            _parameter(name, "query", schema, needed=name in operation.needs)
            for name, schema in query.items()
        ],
        *[_parameter(name, "header", schema) for name, schema in operation.headers.items()],
    ]


def _parameter(name: str, where: str, schema: Schema, *, needed: bool = False) -> dict[str, Any]:
    return {"name": name, "in": where, "required": needed, "schema": schema}
