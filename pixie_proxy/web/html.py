"""Write pages: templates from files, everything escaped, and headers under which nothing foreign can run."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pixie_proxy.errors import ProxyError
from pixie_proxy.records import id_time_us, to_datetime
from pixie_proxy.web.context import SESSION
from pixie_proxy.web.static import address_of

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: under that a browser sends its own forms with `Origin: null`, which we refuse.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-store",
    "Vary": "Cookie",
}
_NOT_PAGES = ("/v1/", "/i/", "/static/", "/healthz", "/readyz", "/metrics", "/openapi.json")


def page(request: web.Request, template: str, *, status: int = 200, **values: Any) -> web.Response:
    """Write a page from its template; `session` is None where nobody is signed in."""
    text = _TEMPLATES.get_template(template).render(session=request.get(SESSION), **values)
    return web.Response(status=status, text=text, content_type="text/html", headers=PAGE_HEADERS)


def wants_page(request: web.Request) -> bool:
    """Tell whether a fault is told to a person in a browser: our pages' addresses, and an Accept that says so."""
    return "text/html" in request.headers.get("Accept", "") and not f"{request.path}/".startswith(_NOT_PAGES)


def error_page(request: web.Request, error: ProxyError) -> web.Response:
    """Tell a person what went wrong."""
    status, _ = error.answer()
    response = page(
        request,
        "error.html",
        status=status,
        title=_TITLES.get(status, HTTPStatus(status).phrase),
        message=error.message,
    )
    response.headers.update(error.headers)
    return response


_TITLES = {
    400: "That can’t be right",
    403: "That is not for you",
    404: "There is nothing here",
    500: "Something broke",
    503: "Not right now",
}


def _environment() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    templates.globals["static"] = address_of
    templates.filters |= {
        "day": lambda at_us: f"{to_datetime(at_us):%-d %b %Y}",
        "moment": lambda at_us: f"{to_datetime(at_us):%-d %B %Y, %H:%M} UTC",
        "iso": lambda at_us: f"{to_datetime(at_us):%Y-%m-%dT%H:%M:%SZ}",
        "query": lambda values: urlencode({name: value for name, value in values.items() if value}),
        "size": _size,
        "kind": lambda mime: mime.removeprefix("image/").removesuffix("+xml").upper(),
        "made": id_time_us,
        "usd": lambda micros: f"${micros / 1_000_000:,.4f}",
    }
    return templates


def _size(size_bytes: int) -> str:
    """Write a number of bytes as people read it."""
    if size_bytes < 1000:
        return f"{size_bytes} bytes"
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1000:.0f} kB"
    return f"{size_bytes / 1_000_000:.1f} MB"


_TEMPLATES = _environment()
