"""A backup made under load, and kills of its making: what is restored from it is a whole house (R95)."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path
from random import Random

import pytest

from pixie_proxy.backup.record import Record
from pixie_proxy.backup.restoring import damage
from tests.cli.running import PIXIE, environment, pixie, pixie_here
from tests.support import outside
from tests.support.figures import RecordFigure
from tests.support.proxy import RunningProxy, spawn_proxy
from tests.support.traffic import Traffic
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually

SEED = 95
CLIENTS = 6


async def kill_a_run(random: Random, run_s: float, *arguments: str, cwd: Path) -> bool:
    """Begin a command that takes `run_s`, and kill it at a random instant; True if it had not ended before."""
    process = await asyncio.create_subprocess_exec(
        *PIXIE,
        *arguments,
        cwd=cwd,
        env=environment(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await asyncio.wait_for(process.wait(), random.uniform(0.3 * run_s, 1.1 * run_s))
    except TimeoutError:
        process.kill()
        await process.wait()
        return True
    return False


async def is_whole(target: Path) -> bool:
    record = Record.read(target)
    return record is not None and await damage(target, record, lambda _files, _bytes: None) == []


@pytest.mark.parametrize(("rounds", "kills"), [(1, 1), pytest.param(3, 10, marks=pytest.mark.torture)])
async def test_a_backup_under_load_restores_to_a_whole_house(
    tmp_path: Path, upstream: ScriptedUpstream, record_figure: RecordFigure, rounds: int, kills: int
) -> None:
    """Buy, back up, lose everything, restore elsewhere, verify, serve: round after round with the same folder.

    Whatever was acknowledged before a backup began is there, byte for byte, listed, with its links and its bill; a
    backup that is killed leaves the one before it whole; a restore that is killed is finished by the next.
    """
    traffic, random = Traffic(seed=SEED, pause_s=0.01), Random(SEED)
    upstream.default(traffic.answer)
    data, target = tmp_path / "data", tmp_path / "bak"
    killed, spooled, run_s = 0, 0, 1.0
    for number in range(rounds):
        async with spawn_proxy(data, upstream.base_url) as proxy:
            clients = await under_load(traffic, proxy)
            arguments = ("backup", str(target), "--data", str(data), "--json")
            if not target.exists():
                began = time.monotonic()
                assert (await pixie(*arguments, cwd=tmp_path)).code == 0
                run_s = time.monotonic() - began
            for _ in range(kills):
                killed += await kill_a_run(random, run_s, *arguments, cwd=tmp_path)
                assert await is_whole(target)
            acknowledged = set(traffic.received), set(traffic.links)
            ended = await pixie_here(*arguments)
            assert (ended.code, ended.err) == (0, "")
            spooled += json.loads(ended.out)["spooled_calls"]
            traffic.is_cut = True
            await outside.kill(proxy)
            await asyncio.gather(*clients)
            traffic.is_cut = False
        shutil.rmtree(data)
        data = tmp_path / f"data-{number}"
        restore = ("restore", str(target), "--data", str(data))
        await kill_a_run(random, run_s, *restore, cwd=tmp_path)
        if not (data / "pixie.db").exists():
            ended = await pixie_here(*restore)
            assert (ended.code, ended.err) == (0, "")
        else:  # killed behind its last step but recovery, which is what every start begins with
            assert (await pixie_here("verify", "--fix", "--data", str(data))).code == 0
        ended = await pixie_here("verify", "--data", str(data))
        assert (ended.code, ended.err) == (0, ""), ended.out
        traffic.received, traffic.links = acknowledged
        async with spawn_proxy(data, upstream.base_url) as proxy:
            await traffic.check(proxy, data)
            await outside.terminate(proxy)
    assert killed >= rounds * (kills - 1) / 3
    record_figure(
        "R95",
        seed=SEED,
        backups_restored=rounds,
        backups_killed=killed,
        images_acknowledged=len(traffic.received),
        calls_in_the_spool=spooled,
        lost=0,
        dangling=0,
    )


async def under_load(traffic: Traffic, proxy: RunningProxy) -> list[asyncio.Task[None]]:
    """Let clients buy, and wait until some have bought."""
    enough = len(traffic.received) + 20
    clients = [asyncio.create_task(traffic.client(proxy)) for _ in range(CLIENTS)]
    await eventually(lambda: len(traffic.received) >= enough)
    return clients
