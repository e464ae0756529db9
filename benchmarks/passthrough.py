"""The bare pass-through: aiohttp and uvloop, one process, nothing kept and nothing checked.

`python -m benchmarks.passthrough PORT UPSTREAM_URL`. It streams as the proxy does, so the two differ only by what the
proxy does for its users.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import aiohttp
import uvloop
from aiohttp import web

from benchmarks.processes import HOST

_SESSION = web.AppKey("session", aiohttp.ClientSession)
_UPSTREAM = web.AppKey("upstream", str)
_BUFFER_BYTES = 65536
_PASSED = ("Authorization", "Content-Type", "Accept", "User-Agent")


async def relay(request: web.Request) -> web.StreamResponse:
    """Send the request on and stream what comes back."""
    headers = {name: request.headers[name] for name in _PASSED if name in request.headers}
    url = request.app[_UPSTREAM] + request.path
    body = await request.read()
    async with request.app[_SESSION].post(url, data=body, headers=headers, allow_redirects=False) as upstream:
        answer = web.StreamResponse(status=upstream.status)
        answer.content_type = upstream.content_type
        answer.content_length = upstream.content_length
        await answer.prepare(request)
        async for piece in upstream.content.iter_any():
            await answer.write(piece)
        await answer.write_eof()
        return answer


async def healthz(request: web.Request) -> web.Response:
    """Answer the lag probe."""
    return web.json_response({"status": "ok"})


async def session_ctx(app: web.Application) -> AsyncIterator[None]:
    """Own the session."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, read_bufsize=_BUFFER_BYTES) as session:
        app[_SESSION] = session
        yield


def main() -> None:
    port, upstream = sys.argv[1:]
    app = web.Application()
    app[_UPSTREAM] = upstream
    app.cleanup_ctx.append(session_ctx)
    app.add_routes([web.get("/healthz", healthz), web.post("/{path:.*}", relay)])
    loop = uvloop.new_event_loop()
    web.run_app(
        app, host=HOST, port=int(port), loop=loop, access_log=None, print=None, read_bufsize=_BUFFER_BYTES
    )


if __name__ == "__main__":
    main()
