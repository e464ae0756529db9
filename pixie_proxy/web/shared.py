"""What a share opens, for whoever has its link: a page with the image, behind a password where it has one."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from pixie_proxy.errors import RateLimitExceeded
from pixie_proxy.gallery.shares import UNLOCKED_S, dead_link
from pixie_proxy.index.shares import Share
from pixie_proxy.records import ImageRecord
from pixie_proxy.web import files, thumbnails
from pixie_proxy.web.context import context_of
from pixie_proxy.web.cookies import check_origin, is_https
from pixie_proxy.web.forms import read_fields
from pixie_proxy.web.html import page
from pixie_proxy.web.peers import client_of
from pixie_proxy.web.pictures import IMAGE_PX, picture_of, size_px
from pixie_proxy.web.texts import t


async def share_page(request: web.Request) -> web.Response:
    """Show the image, or ask for the password first. Only the image counts as a view."""
    shares = context_of(request).shares
    share, record = await shares.open(_token(request))
    if not _is_unlocked(request, share):
        return _ask(request)
    if request.method == "GET":
        shares.count_view(share)
    response = page(request, "share.html", **_shown(request, share, record))
    response.headers["Referrer-Policy"] = "no-referrer"  # its address is all that it takes to open it
    return response


async def unlock(request: web.Request) -> web.Response:
    """Take the password. One that is right opens this link, in this browser, for a while."""
    check_origin(request, wants_proof=False)
    shares = context_of(request).shares
    share, _ = await shares.open(_token(request))
    given = (await read_fields(request)).get("password", "")
    if share.password is not None:
        try:
            async with shares.passwords.turn():
                if wait_s := await _wait_s(request, share):
                    return _ask_later(request, wait_s)
                if not await shares.passwords.check(given, share.password):
                    wait_s = await _note_failure(request, share)
                    return _ask_later(request, wait_s) if wait_s else _ask(request, 401, t("share.wrong"))
        except RateLimitExceeded as exc:
            return _ask_later(request, int(exc.headers["Retry-After"]))
    path = f"/s/{_token(request)}"
    response = web.Response(status=303, headers={"Location": path, "Vary": "Cookie"})
    response.set_cookie(
        _cookie_name(request),
        shares.proof(share),
        max_age=UNLOCKED_S,
        path=path,
        secure=is_https(context_of(request).settings),
        httponly=True,
        samesite="Lax",  # Strict would ask again whoever comes from a chat
    )
    return response


async def content(request: web.Request) -> web.StreamResponse:
    """Serve the image. Never from the storage's own address: that would outlive the link."""
    return await files.serve(request, await _image(request), files.OWN)


async def thumbnail(request: web.Request) -> web.StreamResponse:
    """Serve the image made small."""
    asked_px = thumbnails.asked_size(request)
    return await thumbnails.serve(request, await _image(request), asked_px)


async def _image(request: web.Request) -> ImageRecord:
    """Find the image of a link that is open to this browser. Raises NotFound, for a locked one too."""
    share, record = await context_of(request).shares.open(_token(request))
    if not _is_unlocked(request, share):
        raise dead_link()
    return record


def _shown(request: web.Request, share: Share, record: ImageRecord) -> dict[str, Any]:
    context = context_of(request)
    preview_px = size_px(context.settings, IMAGE_PX)
    url = f"{context.links.base_url}/s/{_token(request)}"
    title = picture_of(record, preview_px).alt if share.shows_prompt and record.prompt else t("share.title")
    return {
        "image": record,
        "path": f"/s/{_token(request)}",
        "url": url,
        "title": title,
        "prompt": record.prompt if share.shows_prompt else None,
        "preview": picture_of(record, preview_px),
        "expires_us": share.expires_us,
        # A preview is for what a password does not guard; nobody's crawler draws an SVG.
        "has_preview": share.password is None and record.mime != "image/svg+xml",
    }


def _ask(request: web.Request, status: int = 200, error: str | None = None) -> web.Response:
    return page(request, "unlock.html", status=status, path=f"/s/{_token(request)}", error=error)


def _ask_later(request: web.Request, wait_s: int) -> web.Response:
    response = _ask(request, 429, t("share.too_many", n=wait_s))
    response.headers["Retry-After"] = str(wait_s)
    return response


async def _wait_s(request: web.Request, share: Share) -> int:
    tries, now_us = context_of(request).tries, time.time_ns() // 1000
    return max(
        await tries.by_link.wait_s(share.id, now_us),
        await tries.by_address.wait_s(client_of(request) or "", now_us),
    )


async def _note_failure(request: web.Request, share: Share) -> int:
    tries, now_us = context_of(request).tries, time.time_ns() // 1000
    return max(
        await tries.by_link.note_failure(share.id, now_us),
        await tries.by_address.note_failure(client_of(request) or "", now_us),
    )


def _is_unlocked(request: web.Request, share: Share) -> bool:
    return context_of(request).shares.is_unlocked(share, request.cookies.get(_cookie_name(request)))


def _cookie_name(request: web.Request) -> str:
    """Name the cookie. Its path keeps it with its link, so all links may use the same name."""
    return "__Secure-pixie-share" if is_https(context_of(request).settings) else "pixie-share"


def _token(request: web.Request) -> str:
    return request.match_info["token"]
