"""Who calls: the key or the session of a request, and whether its role may do what the route does.

Programs show a key in a header, browsers a session's cookie; where both come, the header counts. A cookie is believed
only from our own pages, and a change wants the session's token with it.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlencode

from aiohttp import web
from aiohttp.typedefs import Handler

from pixie_proxy.accounts.sessions import Session, is_csrf_token
from pixie_proxy.errors import CsrfFailed, InvalidApiKey, PermissionDenied
from pixie_proxy.records import User
from pixie_proxy.web.context import SESSION, USER, context_of
from pixie_proxy.web.cookies import check_origin, check_read, token_of
from pixie_proxy.web.forms import read_fields

Access = Literal["open", "user", "maker", "admin", "admin key", "page", "maker page", "admin page"]
"""open: anyone · user: any good key or session · maker: may make and change images (not a viewer) · admin: admins ·
admin key: admins with a key, never with a cookie · page: whoever is signed in, others are led to /login · maker page:
as page, but not a viewer · admin page: as page, but admins alone."""

CSRF_FIELD, CSRF_HEADER = "csrf", "X-CSRF-Token"
_READS = frozenset({"GET", "HEAD"})
_ADMINS = "This is for admins."
_VIEWER = "Your role is viewer: you may look at images, not make or change any. Ask the admin."


def guarded(handler: Handler, access: Access) -> Handler:
    """Let a handler run only for those whom its route is for; the check belongs to the route, not to the address."""
    if access == "open":
        return handler
    return _guarded_page(handler, access) if access.endswith("page") else _guarded_call(handler, access)


def _guarded_call(handler: Handler, access: Access) -> Handler:
    async def check(request: web.Request) -> web.StreamResponse:
        request[USER] = user = await _caller(request, takes_cookie=access != "admin key")
        if access in {"admin", "admin key"} and not user.is_admin:
            raise PermissionDenied(_ADMINS)
        if access == "maker" and user.role == "viewer":
            raise PermissionDenied(_VIEWER)
        return await handler(request)

    return check


def _guarded_page(handler: Handler, access: Access) -> Handler:
    async def check(request: web.Request) -> web.StreamResponse:
        session = await session_of(request)
        if session is None:
            return _to_login(request)
        request[SESSION], request[USER] = session, session.user
        if request.method not in _READS:
            await _check_change(request, session)
        if access == "maker page" and session.user.role == "viewer":
            raise PermissionDenied(_VIEWER)
        if access == "admin page" and not session.user.is_admin:
            raise PermissionDenied(_ADMINS)
        return await handler(request)

    return check


async def session_of(request: web.Request) -> Session | None:
    """Find the session of a request's cookie; where it may come from is not judged here."""
    token = token_of(request)
    return None if token is None else await context_of(request).sessions.find(token)


async def _caller(request: web.Request, *, takes_cookie: bool) -> User:
    """Find the caller by the bearer key, or else by the session. Raises InvalidApiKey and CsrfFailed."""
    if takes_cookie and "Authorization" not in request.headers:
        session = await session_of(request)
        if session is not None:
            if request.method in _READS:
                check_read(request)
            else:
                await _check_change(request, session)
            return session.user
    return authenticate(request)


async def _check_change(request: web.Request, session: Session) -> None:
    """Want proof that a change was meant: our own page sent it, with the session's token. Raises CsrfFailed."""
    check_origin(request, wants_proof=True)
    given = request.headers.get(CSRF_HEADER)
    if given is None and request.content_type == "application/x-www-form-urlencoded":
        given = (await read_fields(request)).get(CSRF_FIELD)
    if given is None or not is_csrf_token(session, given):
        message = "This form is too old, or not from this gallery. Go back, reload the page and try again."
        raise CsrfFailed(message)


def _to_login(request: web.Request) -> web.Response:
    """Lead a browser to the sign-in page, and from there back to what it wanted to see."""
    wanted = request.rel_url.raw_path_qs if request.method in _READS else "/"
    query = "" if wanted == "/" else "?" + urlencode({"next": wanted})
    return web.Response(status=303, headers={"Location": f"/login{query}", "Vary": "Cookie"})


def authenticate(request: web.Request) -> User:
    """Find the caller by the bearer key. Raises InvalidApiKey."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not (key := key.strip()):
        message = (
            "You didn't provide an API key. Send the key that the admin of this proxy gave you as "
            "'Authorization: Bearer KEY' (the api_key of an OpenAI SDK)."
        )
        raise InvalidApiKey(message)
    return context_of(request).directory.find(key)
