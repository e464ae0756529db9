"""Storage is away: callers go on until the spool is at its cap, and who stops meanwhile does not wait for it."""

from __future__ import annotations

import asyncio
import json
import time
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest

from tests.support import outside
from tests.support.callers import orders, place
from tests.support.ledgers import compare
from tests.support.pictures import png
from tests.support.proxy import MEMBER_KEY, RunningProxy, run_proxy, spawn_proxy
from tests.support.scraping import scrape
from tests.support.studio import Studio
from tests.support.upstream import ScriptedUpstream, image_json
from tests.support.waiting import eventually

pytestmark = pytest.mark.system

GENERATIONS = "/v1/images/generations"
CAP = {"spool_max_gb": 0.1}
LARGE = 20_000_000


def obstacle(data_dir: Path) -> Path:
    """Give the path where a file keeps storage from taking anything."""
    return data_dir / "storage" / "images"


async def refusal(proxy: RunningProxy) -> tuple[int, str, str]:
    """Send the head of a paid call and no body; give what answers it."""
    address = urlsplit(proxy.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        f"POST {GENERATIONS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {MEMBER_KEY}\r\n"
        "Content-Type: application/json\r\nContent-Length: 20\r\n\r\n".encode()
    )
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode().lower()
    body = orjson.loads(await reader.readexactly(int(head.split("content-length: ")[1].split()[0])))
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body["error"]["code"], head.split("retry-after: ")[1].split()[0]


async def reason(proxy: RunningProxy) -> str | None:
    """Why /readyz says no."""
    _, _, body = await proxy.request("GET", "/readyz", key=None)
    found: str | None = json.loads(body).get("reason")
    return found


async def test_admission_closes_at_the_cap_and_opens_by_itself(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """R46: for all processes, and for the next start; nothing is sent or read, and what waits is served."""
    data, pictures = tmp_path / "data", [png(size_bytes=LARGE, seed=seed) for seed in range(2)]
    upstream.default(*image_json(pictures))
    async with (
        run_proxy(data, upstream.base_url, server=CAP) as proxy,
        run_proxy(data, upstream.base_url, server=CAP) as other,
    ):
        obstacle(data).write_text("in the way")
        for _ in range(2):
            assert await reason(proxy) is None
            outside.json_of(await proxy.request("POST", GENERATIONS, json={"prompt": "a fox", "n": 2}))
        for each in (proxy, other):
            await eventually(partial(is_closed, each))
            assert await refusal(each) == (503, "storage_full", "30")
        numbers = await scrape(proxy)
        assert numbers("pixie_spool_max_bytes") == 100_000_000
        assert numbers("pixie_spool_bytes") > 4 * LARGE
        for image in await outside.gallery(other):
            assert await outside.content(other, image) == pictures[image["index"]]
        obstacle(data).unlink()
        await eventually(lambda: not outside.spooled(data), 30)
        await eventually(lambda: outside.is_ready(other))
        upstream.default(*image_json([png()]))
        outside.json_of(await other.request("POST", GENERATIONS, json={"prompt": "a hare"}))
    assert len(upstream.requests) == 3


async def is_closed(proxy: RunningProxy) -> bool:
    return await reason(proxy) == "storage_full"


async def test_a_start_knows_that_the_spool_is_full(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """From its first answer on; without a cap there is room."""
    data = tmp_path / "data"
    upstream.default(*image_json([png(size_bytes=LARGE, seed=seed) for seed in range(4)]))
    async with run_proxy(data, upstream.base_url) as proxy:
        obstacle(data).write_text("in the way")
        outside.json_of(await proxy.request("POST", GENERATIONS, json={"prompt": "a fox", "n": 4}))
        assert await reason(proxy) is None
    async with run_proxy(data, upstream.base_url, server=CAP) as proxy:
        assert await refusal(proxy) == (503, "storage_full", "30")


async def test_who_stops_does_not_wait_for_storage(tmp_path: Path) -> None:
    """R93: running calls end and their clients have their images; the next start brings all of them home."""
    data = tmp_path / "data"
    async with Studio(seed=93) as studio:
        studio.takes_s = lambda prompt: 1.0 if "late" in prompt else 0.0
        async with spawn_proxy(data, studio.base_url) as proxy:
            assert proxy.process is not None
            obstacle(data).write_text("in the way")
            sdk = proxy.sdk()
            early = await asyncio.gather(*[place(sdk, order) for order in orders(10, 1, label="early")])
            wanted = orders(10, 2, label="late")
            late = [asyncio.ensure_future(place(sdk, order)) for order in wanted]
            await studio.wait_for_requests(20)
            proxy.process.terminate()
            receipts = [*early, *await asyncio.gather(*late)]
            answered = time.monotonic()
            assert await asyncio.wait_for(proxy.process.wait(), 10) == 0
            assert time.monotonic() - answered < 4.5
        assert [receipt.error for receipt in receipts] == [None] * 20
        assert len([path for path in outside.spooled(data) if path.name == "request.json"]) == 20
        obstacle(data).unlink()
        async with spawn_proxy(data, studio.base_url):
            await outside.settled(data)
        compare(data, sales=studio.sales, receipts=receipts, once=True).assert_clean(93)
