"""Sign in with a key, and out again."""

from __future__ import annotations

import re
import time

from aiohttp import web

from pixie_proxy.errors import InvalidApiKey
from pixie_proxy.records import User
from pixie_proxy.web.auth import session_of
from pixie_proxy.web.context import context_of
from pixie_proxy.web.cookies import check_origin, clear_token, set_token, token_of
from pixie_proxy.web.forms import read_fields
from pixie_proxy.web.html import page
from pixie_proxy.web.peers import client_of
from pixie_proxy.web.texts import t

_LOCAL_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]{0,1023}")
"""A path of ours: `//host` and `/\\host` are other hosts to a browser, and control characters are nothing in a path."""


async def login_page(request: web.Request) -> web.Response:
    """Show the form; whoever is signed in already goes on."""
    wanted = _local(request.query.get("next"))
    if await session_of(request) is not None:
        return _see_other(wanted)
    return page(request, "login.html", next=wanted, error=None)


async def login(request: web.Request) -> web.Response:
    """Begin a session for the owner of a key."""
    check_origin(request, wants_proof=False)
    fields = await read_fields(request)
    wanted = _local(fields.get("next"))
    now_us = time.time_ns() // 1000
    attempts = context_of(request).attempts
    client = client_of(request) or ""
    user = _user_of(request, fields.get("key", "").strip())
    wait_s = await (attempts.wait_s if user else attempts.note_failure)(client, now_us)
    if wait_s:
        message = t("login.too_many", n=wait_s)
        response = page(request, "login.html", status=429, next=wanted, error=message)
        response.headers["Retry-After"] = str(wait_s)
        return response
    if user is None:
        return page(request, "login.html", status=401, next=wanted, error=t("login.wrong"))
    response = _see_other(wanted)
    set_token(request, response, await context_of(request).sessions.begin(user, token_of(request)))
    return response


async def logout(request: web.Request) -> web.Response:
    """End the session, here and in the browser, with all that it has kept for somebody who comes back offline."""
    token = token_of(request)
    if token is not None:
        await context_of(request).sessions.end(token)
    response = _see_other("/login")
    clear_token(request, response)
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response


def _user_of(request: web.Request, key: str) -> User | None:
    try:
        return context_of(request).directory.find(key)
    except InvalidApiKey:
        return None


def _local(path: str | None) -> str:
    """Take a path to go on to, if it is one of ours: a sign-in page must not lead to other sites."""
    return path if path is not None and _LOCAL_PATH.fullmatch(path) else "/"


def _see_other(path: str) -> web.Response:
    return web.Response(status=303, headers={"Location": path, "Vary": "Cookie"})
