"""Write pages: templates from files, everything escaped, and headers under which nothing foreign can run."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pixie_proxy.errors import ProxyError
from pixie_proxy.records import User, id_time_us, to_datetime
from pixie_proxy.web.context import SESSION
from pixie_proxy.web.static import address_of
from pixie_proxy.web.texts import t

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self';"
        " manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types pixie"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: under that a browser sends its own forms with `Origin: null`, which we refuse.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-store",
    "Vary": "Cookie",
}
GROUNDS = {"light": "#f7f6f3", "dark": "#161716"}
"""What a system paints around our pages, by colour scheme: `--ground` of base.css."""

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
        title=_title(status),
        message=error.message,
    )
    response.headers.update(error.headers)
    return response


def see_other(path: str) -> web.Response:
    """Lead a browser on after a form."""
    return web.Response(status=303, headers={"Location": path, "Vary": "Cookie"})


_TITLED = frozenset({400, 403, 404, 500, 503})


def _title(status: int) -> str:
    return t(f"error.{status}") if status in _TITLED else HTTPStatus(status).phrase


def _menu(user: User) -> list[tuple[str, str, str]]:
    """Give where somebody may go: the name of the place, its path and its icon."""
    places = [("images", "/", "images"), ("create", "/create", "spark"), ("usage", "/usage", "chart")]
    if user.role == "viewer":
        places.remove(("create", "/create", "spark"))
    return [*places, ("admin", "/admin", "gear")] if user.is_admin else places


def _environment() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    templates.globals |= {"static": address_of, "t": t, "menu": _menu, "here": None, "grounds": GROUNDS}
    filters: dict[str, Callable[..., Any]] = {
        "day": lambda at_us: f"{to_datetime(at_us):%-d %b %Y}",
        "moment": lambda at_us: f"{to_datetime(at_us):%-d %B %Y, %H:%M} UTC",
        "minute": lambda at_us: f"{to_datetime(at_us):%-d %b %Y, %H:%M}",
        "second": lambda at_us: f"{to_datetime(at_us):%H:%M:%S} UTC",
        "iso": lambda at_us: f"{to_datetime(at_us):%Y-%m-%dT%H:%M:%SZ}",
        "query": lambda values: urlencode({name: value for name, value in values.items() if value}),
        "size": size,
        "kind": lambda mime: mime.removeprefix("image/").removesuffix("+xml").upper(),
        "made": id_time_us,
        "usd": lambda micros: f"${micros / 1_000_000:,.4f}",
        "money": money,
        "lasting": lasting,
        "plain": plain,
    }
    templates.filters |= filters
    return templates


def money(micros: int) -> str:
    """Write micros as USD, exactly: to the cent where that is exact, else with as many digits as it takes."""
    whole, rest = divmod(abs(micros), 1_000_000)
    digits = f"{rest:06}".rstrip("0").ljust(2, "0")
    return f"{'−' if micros < 0 else ''}${whole:,}.{digits}"


def plain(value: object) -> str:
    """Write a number as people write it in settings: 20, not 20.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def size(size_bytes: int) -> str:
    """Write a number of bytes as people read it."""
    if size_bytes < 1000:
        return f"{size_bytes} bytes"
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1000:.0f} kB"
    if size_bytes < 1_000_000_000:
        return f"{size_bytes / 1_000_000:.1f} MB"
    return f"{size_bytes / 1_000_000_000:,.1f} GB"


def lasting(seconds: float) -> str:
    """Write how long something takes or took, as people say it: `40 s`, `7 min`, `5 h`, `3 d`."""
    for most, unit_s, unit in ((100, 1, "s"), (6000, 60, "min"), (172_800, 3600, "h")):
        if seconds < most:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


_TEMPLATES = _environment()
