"""The files that pages are dressed with and moved by, read once, under a name that changes with any of them.

All addresses hold one version, the hash of the whole set: a module's own imports (`./api.js`) then lead to the files
that it was written with, browsers keep everything for ever, and an upgrade is a new set of addresses.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiohttp import web

from pixie_proxy.errors import NotFound
from pixie_proxy.web.texts import as_module

_FOLDER = Path(__file__).with_name("static")
_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
_TEXT_TYPES = frozenset({".css", ".js", ".svg"})
_VERSION_CHARACTERS = 16
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    body: bytes
    packed: bytes | None  # by gzip; None where that gains nothing
    mime: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Set:
    files: dict[str, _File]
    version: str


def address_of(name: str) -> str:
    """Give the address of a file as it is now: another content is another address. Raises KeyError."""
    known = _set()
    if name not in known.files:
        raise KeyError(name)
    return f"/static/{known.version}/{name}"


def names() -> list[str]:
    """Give the names of all files."""
    return sorted(_set().files)


def version() -> str:
    """Give the version of the whole set."""
    return _set().version


async def static(request: web.Request) -> web.Response:
    """Serve a file. Names are looked up among those that exist, and never become a path."""
    known = _set()
    name = request.match_info["name"]
    file = known.files.get(name)
    if file is None:
        raise NotFound(f"There is no file {name} here.")
    is_named_exactly = request.match_info["version"] == known.version
    etag = f'"{known.version}"'
    headers = {
        **_HEADERS,
        "ETag": etag,
        # A page of another version (an upgrade goes on, a tab stayed open) gets what there is, and asks again.
        "Cache-Control": "public, max-age=31536000, immutable" if is_named_exactly else "public, no-cache",
        "Vary": "Accept-Encoding",
    }
    if etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    body = file.body
    if file.packed is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
        body, headers["Content-Encoding"] = file.packed, "gzip"
    charset = None if file.mime.startswith("image/") else "utf-8"
    return web.Response(body=body, content_type=file.mime, charset=charset, headers=headers)


@cache
def _set() -> _Set:
    bodies = {path.name: path.read_bytes() for path in _FOLDER.iterdir() if path.suffix in _TYPES}
    bodies["texts.js"] = as_module()
    whole = hashlib.sha256()
    for name, body in sorted(bodies.items()):
        whole.update(f"{name} {len(body)}\n".encode() + body)
    return _Set(
        files={name: _file(name, body) for name, body in bodies.items()},
        version=whole.hexdigest()[:_VERSION_CHARACTERS],
    )


def _file(name: str, body: bytes) -> _File:
    suffix = Path(name).suffix
    packed = gzip.compress(body, mtime=0) if suffix in _TEXT_TYPES else body
    return _File(body=body, packed=packed if len(packed) < len(body) else None, mime=_TYPES[suffix])
