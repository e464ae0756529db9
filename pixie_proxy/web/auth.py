"""Who calls: the bearer key of a request, and whether its role may do what the route does."""

from __future__ import annotations

from typing import Literal

from aiohttp import web
from aiohttp.typedefs import Handler

from pixie_proxy.errors import InvalidApiKey, PermissionDenied
from pixie_proxy.records import User
from pixie_proxy.web.context import USER, context_of

Access = Literal["open", "user", "maker", "admin"]
"""open: anyone · user: any good key · maker: may make and change images (not a viewer) · admin: admins only."""


def guarded(handler: Handler, access: Access) -> Handler:
    """Let a handler run only for those whom its route is for; the check belongs to the route, not to the address."""
    if access == "open":
        return handler

    async def check(request: web.Request) -> web.StreamResponse:
        request[USER] = user = authenticate(request)
        if access == "admin" and not user.is_admin:
            message = "This is for admins."
            raise PermissionDenied(message)
        if access == "maker" and user.role == "viewer":
            message = "Your role is viewer: you may look at images, not make or change any. Ask the admin."
            raise PermissionDenied(message)
        return await handler(request)

    return check


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
