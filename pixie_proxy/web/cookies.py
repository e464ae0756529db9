"""The cookie of a session, and where a request with it may come from.

Two things stand between a foreign page and a change in somebody's name: the browser must say that the request comes
from our own page (Origin, Sec-Fetch-Site), and the request must carry the session's token.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web

from pixie_proxy.accounts.sessions import LIFE_US
from pixie_proxy.config import Settings
from pixie_proxy.errors import CsrfFailed
from pixie_proxy.web.context import context_of

_OURS = frozenset({"same-origin", "none"})  # none: typed into the address bar, or a bookmark


def cookie_name(settings: Settings) -> str:
    """Name the cookie. Browsers keep `__Host-…` from sub-domains and from plain http, but only where there is TLS."""
    return "__Host-pixie" if is_https(settings) else "pixie"


def token_of(request: web.Request) -> str | None:
    """Read the session's cookie."""
    return request.cookies.get(cookie_name(context_of(request).settings))


def set_token(request: web.Request, response: web.StreamResponse, token: str) -> None:
    """Give the browser its session."""
    _set(request, response, token, LIFE_US // 1_000_000)


def clear_token(request: web.Request, response: web.StreamResponse) -> None:
    """Take it away again."""
    _set(request, response, "", 0)


def check_read(request: web.Request) -> None:
    """Refuse to read for a page that is not ours. Raises CsrfFailed."""
    if request.headers.get("Sec-Fetch-Site", "none") not in _OURS:
        message = "Another site asked for this in your name. Open it from the gallery, or send an API key."
        raise CsrfFailed(message)


def check_origin(request: web.Request, *, wants_proof: bool) -> None:
    """Refuse a form or a change that a page of another origin sent. Raises CsrfFailed.

    `wants_proof`: one of the two headers must be there. All browsers send them; a script may not.
    """
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    is_ours = site in _OURS if origin is None else _is_own_origin(request, origin) and site in {*_OURS, None}
    if origin is None and site is None:
        is_ours = not wants_proof
    if not is_ours:
        message = (
            "This form came from another address than this proxy's. Open the gallery itself and try again."
        )
        raise CsrfFailed(message)


def _is_own_origin(request: web.Request, origin: str) -> bool:
    """Compare with the public URL, and with the address that the browser asked.

    A foreign page can't choose the Host header that goes with somebody's cookie: it comes with the cookie's own host.
    """
    public_url = context_of(request).settings.server.public_url
    try:
        sent = urlsplit(origin)
        public = urlsplit(public_url) if public_url else None
    except ValueError:
        return False
    if sent.scheme not in {"http", "https"} or not sent.netloc or sent.path:
        return False
    if public is not None and (sent.scheme, sent.netloc) == (public.scheme, public.netloc.lower()):
        return True
    return sent.netloc == request.headers.get("Host", "").lower() and (
        public is None or sent.scheme == public.scheme
    )


def is_https(settings: Settings) -> bool:
    """Tell whether browsers reach us over TLS."""
    return (settings.server.public_url or "").startswith("https://")


def _set(request: web.Request, response: web.StreamResponse, token: str, max_age_s: int) -> None:
    settings = context_of(request).settings
    response.set_cookie(
        cookie_name(settings),
        token,
        max_age=max_age_s,
        path="/",
        secure=is_https(settings),
        httponly=True,
        samesite="Lax",
    )
