"""`pixie verify` beside a running proxy: what was seeded is found, and nothing that the proxy is doing (R6, R7)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pixie_proxy.backends import open_storage
from pixie_proxy.config import S3Settings
from pixie_proxy.gallery.retention import Retention
from pixie_proxy.index import Tx, images
from pixie_proxy.index.sqlite import SqliteIndex
from pixie_proxy.records import new_id
from pixie_proxy.spool.area import Spool
from pixie_proxy.storage import MANIFEST, folder_ref
from pixie_proxy.threads import WorkerThreads
from tests.audit.conftest import House
from tests.cli.running import pixie
from tests.support import outside
from tests.support.pictures import png
from tests.support.proxy import ADMIN_KEY, RunningProxy, run_proxy
from tests.support.upstream import ScriptedUpstream, image_json

pytestmark = pytest.mark.system

GENERATIONS = "/v1/images/generations"
DAY_S = 24 * 60 * 60

Record = Callable[..., None]


on_both = pytest.mark.parametrize(
    "proxy",
    ["local", pytest.param("s3", marks=[pytest.mark.torture, pytest.mark.xdist_group("ceph")])],
    indirect=True,
)


@pytest.fixture
async def proxy(
    request: pytest.FixtureRequest, tmp_path: Path, upstream: ScriptedUpstream
) -> AsyncIterator[RunningProxy]:
    """Serve a proxy whose images lie on disk, or on S3 for a test that asks for it."""
    storage: dict[str, Any] = {"kind": "local"}
    if getattr(request, "param", "local") == "s3":
        storage = {"kind": "s3", "s3": request.getfixturevalue("ceph").bucket()}
    async with run_proxy(tmp_path / "data", upstream.base_url, storage=storage) as running:
        yield running


@pytest.fixture
async def inside(proxy: RunningProxy) -> AsyncIterator[House]:
    """The running proxy's own index and storage."""
    assert proxy.context is not None
    assert isinstance(proxy.context.index, SqliteIndex)
    writers = WorkerThreads(4, "durable")
    storage = open_storage(proxy.context.settings, writers, proxy.context.spool.disk)
    yield House(
        data=proxy.data_dir,
        index=proxy.context.index,
        storage=storage,
        spool=Spool(proxy.data_dir / "spool", writers),
        writers=writers,
    )
    await storage.close()
    await asyncio.to_thread(writers.close)


async def verify(proxy: RunningProxy, cwd: Path, *options: str) -> dict[str, Any]:
    """Run the command as a cron job does, beside the proxy."""
    assert proxy.context is not None
    variables = {}
    if (storage := proxy.context.settings.storage).kind == "s3":
        told = {**storage.s3.model_dump(exclude_none=True), "secret_access_key": secret(storage.s3)}
        variables = {f"PIXIE_STORAGE__S3__{name.upper()}": value for name, value in told.items() if value}
    ended = await pixie(
        "verify", "--json", "--data", str(proxy.data_dir), *options,
        cwd=cwd, PIXIE_STORAGE__KIND=storage.kind, **variables,
    )  # fmt: skip
    assert ended.err == ""
    report: dict[str, Any] = json.loads(ended.out)
    assert ended.code == (0 if report["clean"] else 1)
    report["counts"] = {kind: count for kind, count in report["counts"].items() if count}
    return report


def secret(s3: S3Settings) -> str:
    assert s3.secret_access_key is not None
    return s3.secret_access_key.get_secret_value()


@on_both
async def test_rot_is_found_and_never_served(
    proxy: RunningProxy, inside: House, tmp_path: Path, record_figure: Record
) -> None:
    """One bit in each of 100 images of 200: exactly those are found, and from then on answered with 503."""
    rng = random.Random(6)
    manifests = [await inside.keep(4) for _ in range(50)]
    refs = [f"{folder_ref(each.call.id)}/{image.file}" for each in manifests for image in each.images]
    rotten = rng.sample(refs, 100)
    for ref in rotten:
        data = bytearray(b"".join([piece async for piece in inside.storage.read(ref)]))
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        await inside.storage.put(ref, bytes(data))
    report = await verify(proxy, tmp_path)
    assert report["counts"] == {"rotten": 100}
    assert sorted(each["ref"] for each in report["findings"]) == sorted(rotten)
    answers = Counter[str]()
    for manifest in manifests:
        for image in manifest.images:
            status, _, body = await proxy.request("GET", f"/v1/images/{image.id}/content", key=ADMIN_KEY)
            if status == 200:
                answers["good" if hashlib.sha256(body).hexdigest() == image.sha256 else "wrong"] += 1
            else:
                answers[f"{status} {json.loads(body)['error']['code']}"] += 1
    assert answers == {"good": 100, "503 storage_unavailable": 100}
    record_figure("R6", flipped=100, found=100, served_wrong=0)


async def test_rot_is_not_given_again(
    proxy: RunningProxy, upstream: ScriptedUpstream, inside: House, tmp_path: Path
) -> None:
    """The same Idempotency-Key is answered with 503, not with bytes that are known to be wrong; nobody pays again."""
    upstream.default(*image_json())
    call: dict[str, Any] = {"json": {"prompt": "a fox"}, "headers": {"Idempotency-Key": "once"}}
    first = await proxy.request("POST", GENERATIONS, **call)
    await outside.settled(proxy.data_dir)
    assert (await proxy.request("POST", GENERATIONS, **call))[2] == first[2]
    (path,) = (inside.data / "storage" / "images").rglob("0.png")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert (await verify(proxy, tmp_path))["counts"] == {"rotten": 1}
    status, _, body = await proxy.request("POST", GENERATIONS, **call)
    assert (status, json.loads(body)["error"]["code"]) == (503, "storage_unavailable")
    assert len(outside.calls(proxy.data_dir)) == 1


@asynccontextmanager
async def live_load(proxy: RunningProxy, inside: House) -> AsyncIterator[Counter[str]]:
    """Let people make images, hide and delete them, and the trash be purged, all the while; count what was done."""
    assert proxy.context is not None
    library, done = proxy.context.library, Counter[str]()
    retention = Retention(
        inside.index,
        inside.storage,
        library._upkeep,
        proxy.context.settings.gallery,
        proxy.context.metrics.retention_held,
        clock=lambda: time.time() + 40 * DAY_S,
    )

    async def make() -> None:
        while True:
            made = outside.json_of(await proxy.request("POST", GENERATIONS, json={"prompt": "a fox", "n": 2}))
            done["made"] += len(made["data"])
            listed = await proxy.get("/v1/images?owner=me&limit=2")
            first, second = [f"/v1/images/{image['id']}" for image in listed["data"]]
            await proxy.request("DELETE", first)
            await proxy.request("POST", second, json={"visibility": "private"})
            done["changed"] += 2

    async def purge() -> None:
        while True:
            done["purged"] += await retention.purge()
            await asyncio.sleep(0.05)

    tasks = [asyncio.ensure_future(work()) for work in (make, make, make, purge)]
    try:
        yield done
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def forget(tx: Tx, request_id: str) -> None:
    """Take a call out of the index, and what it cost out of its accounts."""
    tx.run("DELETE FROM images WHERE request_id = :id", id=request_id)
    tx.run(
        "UPDATE accounts SET spent_life_micros = spent_life_micros"
        " - (SELECT cost_micros FROM requests WHERE id = :id)"
        " WHERE subject IN (SELECT user_id FROM requests WHERE id = :id UNION SELECT 'team')",
        id=request_id,
    )
    tx.run("DELETE FROM requests WHERE id = :id", id=request_id)


async def seed(inside: House, count: int) -> None:
    """Lose rows, lose files, and leave spools of dead processes, which nobody can recover: no row knows their calls."""
    for _ in range(count):
        orphan, dangling = await inside.keep(), await inside.keep()
        await inside.index.write(partial(forget, request_id=orphan.call.id))
        for name in ("0.png", MANIFEST):
            await inside.storage.delete(f"{folder_ref(dangling.call.id)}/{name}")
        stale = inside.spool.root / secrets.token_hex(8) / new_id("req")
        stale.mkdir(parents=True)
        (stale / "0.png").write_bytes(png(size_bytes=777))


@pytest.mark.parametrize("each", [10, pytest.param(50, marks=pytest.mark.torture)])
@on_both
async def test_seeded_faults_are_found_under_load_and_nothing_else(
    proxy: RunningProxy,
    upstream: ScriptedUpstream,
    inside: House,
    tmp_path: Path,
    each: int,
    record_figure: Record,
) -> None:
    """All of three kinds, none false; --fix brings every orphan back, and no image is deleted, be it whose it may."""
    upstream.default(*image_json(2))
    await seed(inside, each)
    async with live_load(proxy, inside) as done:
        found = await verify(proxy, tmp_path)
        fixed = await verify(proxy, tmp_path, "--fix")
        left = await verify(proxy, tmp_path)
    assert min(done.values()) > 0, done
    assert found["counts"] == {"orphan": each, "dangling": each, "stale_spool": each}
    assert fixed["counts"] == found["counts"]
    assert {kind: count for kind, count in fixed["fixed"].items() if count} == {"orphan": each}
    assert left["counts"] == {"dangling": each, "stale_spool": each}
    spooled = [path.read_bytes() for path in inside.spool.root.glob("*/req_*/0.png")]
    assert spooled.count(png(size_bytes=777)) == each
    record_figure(
        "R7", seeded=3 * each, found=3 * each, false=0, left_by_fix=0, images_made_meanwhile=done["made"]
    )


@pytest.mark.torture
async def test_a_minute_of_load_raises_no_false_alarm(
    proxy: RunningProxy, upstream: ScriptedUpstream, inside: House, tmp_path: Path, record_figure: Record
) -> None:
    """However often it looks while images are made, changed, deleted and purged."""
    upstream.default(*image_json(2))
    runs, until = 0, time.monotonic() + 60
    async with live_load(proxy, inside) as done:
        while time.monotonic() < until:
            assert (await verify(proxy, tmp_path, "--fix"))["counts"] == {}
            runs += 1
    record_figure("R7", runs=runs, false=0, **done)


async def test_images_in_the_spool_are_not_missing(
    proxy: RunningProxy, upstream: ScriptedUpstream, inside: House, tmp_path: Path
) -> None:
    """Storage can't be written, so a call waits in the spool, its rows already there: all is well."""
    upstream.default(*image_json())
    day = inside.data / "storage" / "images"
    day.write_bytes(b"in the way")
    status, _, _ = await proxy.request("POST", GENERATIONS, json={"prompt": "a fox"})
    assert status == 200
    assert await inside.index.read(images.count) == 1
    assert (await verify(proxy, tmp_path))["counts"] == {}
    day.unlink()
    await outside.settled(proxy.data_dir)
    (request,) = outside.calls(proxy.data_dir)
    assert (inside.data / "storage" / folder_ref(request["id"])).is_dir()
