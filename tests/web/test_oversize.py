"""R38: answers that never end are cut at the caps, in flat memory; the images that came before are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support import outside
from tests.support.pictures import png
from tests.support.proxy import spawn_proxy
from tests.support.upstream import (
    Exchange,
    ScriptedUpstream,
    head,
    image_json_bytes,
    image_sse_events,
    raw,
)
from tests.web.calling import CAT, GENERATIONS, RawAnswer, http, raw_call

pytestmark = pytest.mark.system

PICTURE = png(size_bytes=300_000)
JSON, SSE = [("Content-Type", "application/json")], [("Content-Type", "text/event-stream")]
A_LOT = b"x" * 262_144
ENDLESS = {
    "a text in JSON": (head(200, JSON, "chunked"), image_json_bytes([PICTURE])[:-20] + b',"x":"', A_LOT, 1),
    "spaces": (head(200, JSON, "chunked"), b"", b" " * len(A_LOT), 0),
    "an event": (head(200, SSE, "chunked"), image_sse_events([PICTURE])[0] + b"data: ", A_LOT, 1),
    "comments": (head(200, SSE, "chunked"), image_sse_events([PICTURE])[0], b": still there\n\n" * 9999, 1),
    "a header": (raw(b"HTTP/1.1 200 OK\r\nX-A: "), b"", A_LOT, 0),
    "headers": (raw(b"HTTP/1.1 200 OK\r\n"), b"", b"X-A: y\r\n" * 9999, 0),
    "1xx": (raw(b""), b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 999, 0),
}
RISE_BYTES = 50 * 1024 * 1024


@pytest.mark.parametrize("name", list(ENDLESS))
async def test_an_answer_without_end_is_cut_in_flat_memory(
    tmp_path: Path, upstream: ScriptedUpstream, record_figure: Callable[..., None], name: str
) -> None:
    """Four clients at once get a gigabyte each if they want it; the process grows by less than 50 MB."""
    begin, first, endless, whole = ENDLESS[name]

    async def answer(exchange: Exchange) -> None:
        await exchange.play(begin)
        await exchange.send(first)
        while True:
            await exchange.send(endless)
            await asyncio.sleep(0.001)

    upstream.default(answer)
    is_stream = begin is ENDLESS["an event"][0] or begin is ENDLESS["comments"][0]
    async with spawn_proxy(tmp_path / "data", upstream.base_url) as proxy:
        assert proxy.process is not None
        process = psutil.Process(proxy.process.pid)
        idle_bytes = process.memory_info().rss
        calls = [raw_call(proxy.url, http(GENERATIONS, {**CAT, "stream": is_stream})) for _ in range(4)]
        answers: list[RawAnswer] = await asyncio.gather(*calls)
        peak_bytes = _peak_bytes(process.pid)
        await outside.settled(proxy.data_dir)
        assert [answer.status != 200 or answer.end == "rst" for answer in answers] == [True] * 4
        assert peak_bytes - idle_bytes < RISE_BYTES
        assert len(outside.stored(proxy.data_dir)) == 4 * whole
        assert {call["state"] for call in outside.calls(proxy.data_dir)} == {"unknown"}
    record_figure("R38", endless=name, rise_bytes=peak_bytes - idle_bytes)


def _peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
