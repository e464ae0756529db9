"""A backup made under load, and kills of its making: what is restored from it is a whole house (R95)."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from random import Random

import pytest

from pixie_proxy.backup.record import Record
from pixie_proxy.backup.restoring import damage
from tests.cli.running import PIXIE, environment, pixie
from tests.support import outside
from tests.support.figures import RecordFigure
from tests.support.proxy import RunningProxy, spawn_proxy
from tests.support.traffic import Traffic
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually

SEED = 95
CLIENTS = 6
A_RUN_TAKES_S = 1.5


async def kill_a_run(random: Random, *arguments: str, cwd: Path) -> bool:
    """Begin a command, and kill it at a random instant; True if it had not ended before."""
    process = await asyncio.create_subprocess_exec(
        *PIXIE,
        *arguments,
        cwd=cwd,
        env=environment(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await asyncio.wait_for(process.wait(), random.uniform(0.2, A_RUN_TAKES_S))
    except TimeoutError:
        process.kill()
        await process.wait()
        return True
    return False


async def is_whole(target: Path) -> bool:
    record = Record.read(target)
    return record is not None and await damage(target, record, lambda _files, _bytes: None) == []


@pytest.mark.parametrize(("rounds", "kills"), [(1, 2), pytest.param(12, 25, marks=pytest.mark.torture)])
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
    killed, spooled = 0, 0
    for number in range(rounds):
        async with spawn_proxy(data, upstream.base_url) as proxy:
            clients = await under_load(traffic, proxy)
            arguments = ("backup", str(target), "--data", str(data), "--json")
            for _ in range(kills if target.exists() else 0):
                killed += await kill_a_run(random, *arguments, cwd=tmp_path)
                assert await is_whole(target)
            acknowledged = set(traffic.received), set(traffic.links)
            ended = await pixie(*arguments, cwd=tmp_path)
            assert (ended.code, ended.err) == (0, "")
            spooled += json.loads(ended.out)["spooled_calls"]
            for _ in range(0 if number else kills):
                killed += await kill_a_run(random, *arguments, cwd=tmp_path)
                assert await is_whole(target)
            if number == 0:  # what came while they were killed counts, too
                acknowledged = set(traffic.received), set(traffic.links)
                assert (await pixie(*arguments, cwd=tmp_path)).code == 0
            traffic.is_cut = True
            await outside.kill(proxy)
            await asyncio.gather(*clients)
            traffic.is_cut = False
        shutil.rmtree(data)
        data = tmp_path / f"data-{number}"
        arguments = ("restore", str(target), "--data", str(data))
        await kill_a_run(random, *arguments, cwd=tmp_path)
        if not (data / "pixie.db").exists():
            ended = await pixie(*arguments, cwd=tmp_path)
            assert (ended.code, ended.err) == (0, "")
        else:  # killed behind its last step but recovery, which is what every start begins with
            assert (await pixie("verify", "--fix", "--data", str(data), cwd=tmp_path)).code == 0
        ended = await pixie("verify", "--data", str(data), cwd=tmp_path)
        assert (ended.code, ended.err) == (0, ""), ended.out
        traffic.received, traffic.links = acknowledged
        async with spawn_proxy(data, upstream.base_url) as proxy:
            await traffic.check(proxy, data)
            await outside.terminate(proxy)
    assert killed >= rounds * kills / 3
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


async def under_load(traffic: Traffic, proxy: RunningProxy) -> list[asyncio.Future[None]]:
    """Let clients buy, and wait until some have bought."""
    enough = len(traffic.received) + 20
    clients = [asyncio.ensure_future(traffic.client(proxy)) for _ in range(CLIENTS)]
    await eventually(lambda: len(traffic.received) >= enough)
    return clients
