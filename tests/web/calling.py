"""What the tests of this room share: calls through the SDK and over bare sockets, and a look into the ledger."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from openai.types import ImagesResponse

from pixie_proxy.index import Index, Tx, accounts, deliveries, ledger, users
from pixie_proxy.index.ledger import LedgerRow
from pixie_proxy.records import Account
from pixie_proxy.web.context import Context
from tests.support.proxy import MEMBER_KEY, RunningProxy
from tests.support.waiting import eventually

GENERATIONS, EDITS, VARIATIONS = "/v1/images/generations", "/v1/images/edits", "/v1/images/variations"
CAT: dict[str, Any] = {"model": "gpt-image-2", "prompt": "a cat"}


class AnySdk:
    """The official SDK as one thing, whether it blocks (then it works in a thread) or not."""

    def __init__(self, proxy: RunningProxy, kind: Literal["sync", "async"], **options: Any) -> None:
        self._proxy = proxy
        self._kind = kind
        self._options = options

    async def images(self, method: str, **fields: Any) -> Any:
        """Call a method of `client.images`; a stream comes as the list of its events."""
        if self._kind == "sync":
            return await asyncio.to_thread(self._blocking, method, fields)
        found = await getattr(self._proxy.sdk(**self._options).images, method)(**fields)
        return [event async for event in found] if fields.get("stream") else found

    def _blocking(self, method: str, fields: dict[str, Any]) -> Any:
        with self._proxy.sync_sdk(**self._options) as client:
            found = getattr(client.images, method)(**fields)
            return list(found) if fields.get("stream") else found


def files_of(answer: ImagesResponse) -> list[bytes]:
    """Decode the images of an answer."""
    return [base64.b64decode(image.b64_json or "", validate=True) for image in answer.data or []]


def context_of(proxy: RunningProxy) -> Context:
    assert proxy.context is not None
    return proxy.context


async def ended(proxy: RunningProxy) -> None:
    """Wait until every call has been settled, with or without its client."""
    assert await context_of(proxy).generation._tasks.drain(10) == 0


async def noted(proxy: RunningProxy) -> None:
    """Wait until the index knows of each answer whether its client has got it."""
    index = context_of(proxy).index
    await eventually(lambda: _has_no_client(index))


async def _has_no_client(index: Index) -> bool:
    return not await index.read(deliveries.attached_processes)


async def ledger_rows(proxy: RunningProxy) -> list[LedgerRow]:
    """Give the whole ledger, oldest first, once every call has ended."""
    await ended(proxy)

    def work(tx: Tx) -> list[LedgerRow]:
        found = [ledger.get(tx, row["id"]) for row in tx.all("SELECT id FROM requests ORDER BY id")]
        return [row for row in found if row is not None]

    return await context_of(proxy).index.read(work)


async def account(proxy: RunningProxy, name: str = "bob") -> Account:
    """Give what a user has taken, once every call has ended."""
    await ended(proxy)

    def work(tx: Tx) -> Account:
        user = users.get_user_by_name(tx, name)
        assert user is not None
        return accounts.get(tx, user.id)

    return await context_of(proxy).index.read(work)


async def listed(proxy: RunningProxy, query: str = "", key: str = MEMBER_KEY) -> list[dict[str, Any]]:
    """List images; newest first unless the query says otherwise."""
    page = await proxy.get(f"/v1/images{query}", key)
    data: list[dict[str, Any]] = page["data"]
    return data


async def kept(proxy: RunningProxy) -> list[bytes]:
    """Give the bytes of every image that is kept, once every call has ended: by call, then by position."""
    await ended(proxy)
    images = sorted(
        await listed(proxy, "?limit=100"), key=lambda image: (image["request_id"], image["index"])
    )
    return [(await proxy.request("GET", f"{image['content_url']}"))[2] for image in images]


def error_of(body: bytes) -> dict[str, Any]:
    """Read an error, which must have OpenAI's envelope with exactly its four keys."""
    said = json.loads(body)
    assert set(said) == {"error"}
    assert set(said["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = said["error"]
    assert error["message"]
    return error


def form(*parts: tuple[str, bytes] | tuple[str, bytes, str], boundary: str = "xXx") -> bytes:
    """Write a form: (name, value) is a text, (name, content, filename) a file."""
    out = bytearray()
    for name, content, *filename in parts:
        out += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        out += f'; filename="{filename[0]}"\r\nContent-Type: x/y'.encode() if filename else b""
        out += b"\r\n\r\n" + content + b"\r\n"
    return bytes(out) + f"--{boundary}--\r\n".encode()


FORM_TYPE = {"Content-Type": "multipart/form-data; boundary=xXx"}


async def post_form(
    proxy: RunningProxy,
    *parts: tuple[str, bytes] | tuple[str, bytes, str],
    path: str = EDITS,
    key: str = MEMBER_KEY,
) -> tuple[int, bytes]:
    """Send a form and give status and body."""
    status, _, body = await proxy.request(
        "POST", path, key=key, data=io.BytesIO(form(*parts)), headers=FORM_TYPE
    )
    return status, body


# --- Bare sockets -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    """What came over a socket. `end`: whole = the framing's own end was seen; else how the connection broke off."""

    status: int
    headers: dict[str, str]
    body: bytes
    end: Literal["whole", "fin", "rst"]


def http(
    path: str = GENERATIONS,
    body: bytes | dict[str, Any] = b"",
    *,
    method: str = "POST",
    key: str = MEMBER_KEY,
    version: str = "1.1",
    headers: dict[str, str] | None = None,
) -> bytes:
    """Write a request; a dict is sent as JSON."""
    if isinstance(body, dict):
        body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
    sent = {"Host": "proxy", "Authorization": f"Bearer {key}", "Connection": "close", **(headers or {})}
    if "Transfer-Encoding" not in sent:
        sent.setdefault("Content-Length", str(len(body)))
    lines = [f"{method} {path} HTTP/{version}", *[f"{name}: {value}" for name, value in sent.items()], "", ""]
    return "\r\n".join(lines).encode() + body


@asynccontextmanager
async def dial(url: str, *, receive_buffer: int | None = None) -> AsyncIterator[socket.socket]:
    """Open a bare socket to a server; a small receive buffer makes a slow reader."""
    parts = urlsplit(url)
    with socket.socket() as sock:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (parts.hostname, parts.port))
        yield sock


async def read_until(sock: socket.socket, mark: bytes) -> bytes:
    """Read up to a mark, and whatever came with it."""
    loop, seen = asyncio.get_running_loop(), bytearray()
    while mark not in seen:
        data = await asyncio.wait_for(loop.sock_recv(sock, 65536), 10)
        assert data, bytes(seen[-500:])
        seen += data
    return bytes(seen)


async def read_answer(sock: socket.socket, seen: bytes = b"") -> RawAnswer:
    """Read to the connection's end, `seen` being what was read before, and take the framing off."""
    loop, buffer = asyncio.get_running_loop(), bytearray(seen)
    broke: Literal["fin", "rst"] = "fin"
    try:
        while data := await asyncio.wait_for(loop.sock_recv(sock, 1 << 20), 15):
            buffer += data
    except ConnectionResetError:
        broke = "rst"
    head, _, body = bytes(buffer).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = [line.split(": ", 1) for line in lines]
    headers = {name.lower(): value for name, value in pairs}
    if headers.get("transfer-encoding") == "chunked":
        body, is_whole = _unchunked(body)
    elif "content-length" in headers:
        is_whole = len(body) == int(headers["content-length"])
    else:
        is_whole = broke == "fin"
    return RawAnswer(
        status=int(first.split(" ")[1]), headers=headers, body=body, end="whole" if is_whole else broke
    )


async def raw_call(url: str, request: bytes) -> RawAnswer:
    """Send a request over a bare socket and read whatever comes."""
    async with dial(url) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, request)
        return await read_answer(sock)


def _unchunked(data: bytes) -> tuple[bytes, bool]:
    body, at = bytearray(), 0
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end], 16)
        if size == 0:
            return bytes(body), True
        body += data[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
    return bytes(body), False
