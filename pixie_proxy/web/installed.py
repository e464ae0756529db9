"""What makes the gallery an app on somebody's machine: manifest, service worker, and what a phone shares to it.

None of it knows who asks, so all of it is open. What is one's own stays in one's browser: static/worker.js says how.
"""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from pixie_proxy.web import static
from pixie_proxy.web.html import GROUNDS, page, see_other
from pixie_proxy.web.texts import t

_OFFLINE = "/offline"
_REVALIDATED = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
_WORKER_POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'"
_WORKER = """\
// The service worker of one version of the gallery: another version is another text, which replaces it.
import { serve } from "%s";

serve(%s);
"""


async def manifest(_request: web.Request) -> web.Response:
    """Describe the app to whoever installs it."""
    return web.Response(
        body=orjson.dumps(_manifest()), content_type="application/manifest+json", headers=_REVALIDATED
    )


async def worker(_request: web.Request) -> web.Response:
    """Give the service worker. It stands at the root, for a worker serves no more than what lies below its address."""
    files = [static.address_of(name) for name in static.names() if not name.endswith(".png")]
    told = orjson.dumps({"version": static.version(), "files": files, "offline": _OFFLINE}).decode()
    return web.Response(
        text=_WORKER % (static.address_of("worker.js"), told),
        content_type="text/javascript",
        headers={**_REVALIDATED, "Content-Security-Policy": _WORKER_POLICY},
    )


async def offline(request: web.Request) -> web.Response:
    """Show what stands in for a page that is not to be had: the worker keeps it for then."""
    return page(request, "offline.html")


async def incoming(_request: web.Request) -> web.Response:
    """Lead on whoever shared files to us without a worker, which alone would have kept them. They are not read."""
    return see_other("/create?incoming=missed")


def _manifest() -> dict[str, Any]:
    icons = [
        _icon("icon-192.png", 192),
        _icon("icon-512.png", 512),
        _icon("icon-maskable.png", 512, "maskable"),
    ]
    return {
        "id": "/",
        "name": t("app.name"),
        "short_name": t("site.name"),
        "description": t("app.about"),
        "lang": "en",
        "start_url": "/",
        "scope": "/",
        "display": "standalone",
        "theme_color": GROUNDS["light"],
        "background_color": GROUNDS["light"],
        "icons": icons,
        "shortcuts": [
            {"name": t(f"menu.{name}"), "url": f"/{name}", "icons": icons[:1]} for name in ("create", "usage")
        ],
        "share_target": {
            "action": "/create/incoming",
            "method": "POST",
            "enctype": "multipart/form-data",
            "params": {
                "title": "title",
                "text": "text",
                "url": "url",
                "files": [{"name": "files", "accept": ["image/*"]}],
            },
        },
    }


def _icon(name: str, side_px: int, purpose: str = "any") -> dict[str, str]:
    return {
        "src": static.address_of(name),
        "sizes": f"{side_px}x{side_px}",
        "type": "image/png",
        "purpose": purpose,
    }
