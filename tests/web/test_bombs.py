"""Bombs through the whole proxy: the worker bears them within its bounds, and the originals are kept (R62)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from pixie_proxy.gallery import workers
from pixie_proxy.gallery.thumbnail_worker import Thumbnail
from tests.gallery.bombs import BOMBS
from tests.support.figures import RecordFigure
from tests.support.proxy import RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.calling import CAT, GENERATIONS, ended, listed

LIMIT_S, LIMIT_BYTES = 5.0, 768 * 1024 * 1024
QUICK = ("an APNG of 60,000 frames", "a JPEG of 65,535 pictures", "a moving WebP of 20,000 frames", "a TIFF")


class Scales:
    """Weighs each worker while it has an image: its processor time, and the most memory that it ever asked for."""

    def __init__(self) -> None:
        self.cpu_s: list[float] = []
        self.peak_bytes: list[int] = []

    def on(self, make: Callable[..., Any]) -> Callable[..., Any]:
        async def weighed(worker: workers.Worker, *args: Any) -> Thumbnail:
            await worker.close()  # a process of its own, whose figures are this image's
            weighing = asyncio.ensure_future(self._weigh(worker))
            try:
                made: Thumbnail = await make(worker, *args)
                return made
            finally:
                weighing.cancel()
                await asyncio.wait({weighing})

        return weighed

    async def _weigh(self, worker: workers.Worker) -> None:
        cpu_s, peak_bytes = 0.0, 0
        try:
            while True:
                await asyncio.sleep(0.002)
                with contextlib.suppress(psutil.NoSuchProcess):
                    if worker.pid is not None and (process := psutil.Process(worker.pid)).cmdline():
                        times = process.cpu_times()
                        cpu_s = max(cpu_s, times.user + times.system)
                        peak_bytes = max(peak_bytes, process.memory_info().vms)
        finally:
            self.cpu_s.append(cpu_s)
            self.peak_bytes.append(peak_bytes)


@pytest.mark.parametrize(
    "names", [QUICK, pytest.param((*BOMBS,), marks=pytest.mark.torture)], ids=["4", "25"]
)
async def test_bombs_hurt_nobody(
    proxy: RunningProxy,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
    record_figure: RecordFigure,
) -> None:
    """Each is kept byte for byte, has a thumbnail or a placeholder, and that within the worker's bounds."""
    assert len(BOMBS) == 25
    scales, shown = Scales(), 0
    monkeypatch.setattr(workers.Worker, "make", scales.on(workers.Worker.make))
    for name in names:
        data = BOMBS[name]()
        upstream.script(image_json([data]))
        status, _, body = await proxy.request("POST", GENERATIONS, json=CAT)
        assert status == 200, body
        await ended(proxy)
        (image,) = await listed(proxy, "?limit=1")
        status, headers, _ = await proxy.request("GET", image["thumbnail_url"])
        assert status == 200
        assert headers.get("x-pixie-placeholder") in {None, "failed", "unsupported"}, name
        shown += "x-pixie-placeholder" not in headers
        assert (await proxy.request("GET", image["content_url"]))[2] == data
        print(name, headers.get("x-pixie-placeholder"), scales.cpu_s[-1:], scales.peak_bytes[-1:])
    assert max(scales.cpu_s) <= LIMIT_S
    assert max(scales.peak_bytes) <= LIMIT_BYTES
    record_figure(
        "R62",
        bombs=len(names),
        thumbnails=shown,
        placeholders=len(names) - shown,
        processor_s=max(scales.cpu_s),
        memory_bytes=max(scales.peak_bytes),
        lost=0,
    )
