"""The few files that pages are dressed with, read once, and named with their hash so that browsers keep them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiohttp import web

from pixie_proxy.errors import NotFound

_FOLDER = Path(__file__).with_name("static")
_TYPES = {".css": "text/css", ".svg": "image/svg+xml"}
_HASH_CHARACTERS = 16
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    body: bytes
    mime: str
    version: str


@cache
def _files() -> dict[str, _File]:
    return {
        path.name: _File(
            body=(body := path.read_bytes()),
            mime=_TYPES[path.suffix],
            version=hashlib.sha256(body).hexdigest()[:_HASH_CHARACTERS],
        )
        for path in _FOLDER.iterdir()
        if path.suffix in _TYPES
    }


def address_of(name: str) -> str:
    """Give the address of a file as it is now: another content is another address."""
    return f"/static/{name}?v={_files()[name].version}"


async def static(request: web.Request) -> web.Response:
    """Serve a file. Names are looked up among those that exist, and never become a path."""
    name = request.match_info["name"]
    file = _files().get(name)
    if file is None:
        raise NotFound(f"There is no file {name} here.")
    etag = f'"{file.version}"'
    is_named_exactly = request.query.get("v") == file.version
    headers = {
        **_HEADERS,
        "ETag": etag,
        "Cache-Control": "public, max-age=31536000, immutable" if is_named_exactly else "public, no-cache",
    }
    if etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    return web.Response(
        body=file.body,
        content_type=file.mime,
        charset="utf-8" if file.mime == "text/css" else None,
        headers=headers,
    )
