"""The server of the index crashes, restarts, hangs and cuts connections off, under load: nothing is lost (R52)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random

import psycopg
import pytest

from tests.support import outside
from tests.support.callers import Order, Receipt, orders, place
from tests.support.figures import RecordFigure
from tests.support.ledgers import compare
from tests.support.mounts import fill, small_disk, unfill
from tests.support.postgres import Server
from tests.support.proxy import RunningProxy, run_proxy
from tests.support.studio import Studio
from tests.support.waiting import eventually

GENERATIONS = "/v1/images/generations"
ROUNDS = ("crash", "restart", "hang", "terminate")
AS_MANY_REFUSALS = pytest.mark.parametrize("refusals", [1, pytest.param(100, marks=pytest.mark.torture)])


@pytest.fixture(scope="module")
def server(own_postgres: Server) -> Server:
    return own_postgres


def crash(server: Server) -> None:
    server.stop("immediate")
    server.start()


def restart(server: Server) -> None:
    server.stop("fast")
    server.start()


def terminate(server: Server) -> None:
    for _ in range(5):
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pixie_proxy'"
        )


async def fail(server: Server, how: str, hangs_s: float) -> None:
    """Let the server fail in some way, and be well again."""
    if how == "hang":
        with server.stopped():
            await asyncio.sleep(hangs_s)
        return
    work: Callable[[Server], None] = {"crash": crash, "restart": restart, "terminate": terminate}[how]
    await asyncio.to_thread(work, server)


@pytest.mark.parametrize(
    ("rounds", "calls", "hangs_s"),
    [(len(ROUNDS), 16, 0.5), pytest.param(50, 500, 20.0, marks=pytest.mark.torture)],
)
async def test_nothing_is_lost_when_the_server_fails(
    tmp_path: Path, server: Server, record_figure: RecordFigure, rounds: int, calls: int, hangs_s: float
) -> None:
    """Again and again, with calls at every step of their way: four ledgers agree, and nothing was paid twice."""
    data, random = tmp_path / "data", Random(52)
    server.keep_index(data)
    receipts: list[Receipt] = []
    async with Studio(seed=52) as studio, run_proxy(data, studio.base_url) as proxy:
        studio.takes_s = lambda prompt: Random(prompt).uniform(0, 0.6)
        sdk = proxy.sdk(max_retries=3 if rounds > len(ROUNDS) else 0)

        async def call(order: Order, waits_s: float) -> Receipt:
            await asyncio.sleep(waits_s)
            return await place(sdk, order)

        for number in range(rounds):
            asked = orders(calls, seed=number, label=f"round {number}")
            placed = [asyncio.ensure_future(call(each, random.uniform(0, 0.5))) for each in asked]
            await asyncio.sleep(random.uniform(0.05, 0.3))
            await fail(server, ROUNDS[number % len(ROUNDS)], hangs_s)
            receipts += await asyncio.gather(*placed)
            await eventually(lambda: outside.is_settled(data), 60)
    report = compare(data, sales=studio.sales, receipts=receipts, once=True)
    record_figure(
        "R52", rounds=rounds, calls_at_once=calls, **report.figures, violations=len(report.violations)
    )
    report.assert_clean(52)
    errors = {receipt.error for receipt in receipts} - {None}
    assert errors <= {"index_unavailable"}


async def ask(proxy: RunningProxy, prompt: str) -> tuple[int, bytes]:
    status, _, body = await proxy.request("POST", GENERATIONS, json={"prompt": prompt})
    return status, body


async def test_an_answer_that_was_paid_is_given_while_the_server_is_away(
    tmp_path: Path, server: Server
) -> None:
    """The client gets all, it is kept, and the index catches up; until then new calls are refused unpaid."""
    data = tmp_path / "data"
    server.keep_index(data)
    async with Studio(seed=1) as studio, run_proxy(data, studio.base_url) as proxy:
        studio.waits_s = lambda _: 0.5
        running = asyncio.ensure_future(ask(proxy, "a fox"))
        await eventually(lambda: len(studio.sales) == 1)
        await asyncio.to_thread(server.stop, "immediate")
        try:
            assert (await running)[0] == 200
            status, body = await ask(proxy, "another fox")
            assert (status, b"index_unavailable" in body) == (503, True)
            assert len(studio.sales) == 1
            assert not await outside.is_ready(proxy)
        finally:
            await asyncio.to_thread(server.start)
        await outside.settled(data)
        assert await outside.is_ready(proxy)
        assert (await ask(proxy, "a third fox"))[0] == 200
        await outside.settled(data)
    compare(data, sales=studio.sales, once=True).assert_clean()


@AS_MANY_REFUSALS
async def test_a_server_that_only_reads_refuses_before_money_is_spent(
    tmp_path: Path, server: Server, record_figure: RecordFigure, refusals: int
) -> None:
    """As after a failover: the gallery goes on, calls are refused, and all works when it writes again (R54)."""
    data = tmp_path / "data"
    name = server.keep_index(data).rpartition("/")[2]
    async with Studio(seed=1) as studio, run_proxy(data, studio.base_url) as proxy:
        assert (await ask(proxy, "a fox"))[0] == 200
        await outside.settled(data)
        server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        terminate(server)
        for number in range(refusals):
            status, body = await ask(proxy, f"another fox {number}")
            assert (status, b"The index is read-only" in body) == (503, True)
        assert len(studio.sales) == 1
        assert len(await outside.gallery(proxy)) == 1
        with psycopg.connect(server.url(), autocommit=True) as link:
            link.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off".encode())
        terminate(server)
        await eventually(lambda: outside.is_settled(data))
        assert (await ask(proxy, "another fox"))[0] == 200
        await outside.settled(data)
    compare(data, sales=studio.sales).assert_clean()
    record_figure("R54", refused=refusals, upstream_calls_of_these=0)


@AS_MANY_REFUSALS
async def test_a_full_disk_of_the_server_refuses_before_money_is_spent(
    tmp_path: Path, server: Server, record_figure: RecordFigure, refusals: int
) -> None:
    """What can't be entered is not bought; what was bought is entered when there is room again (R54)."""
    data, disk = tmp_path / "data", server.folder / "small"
    with small_disk(disk, 60), server.tablespace(disk) as space:
        server.keep_index(data, tablespace=space)
        async with Studio(seed=1) as studio, run_proxy(data, studio.base_url) as proxy:
            assert (await ask(proxy, "a fox"))[0] == 200
            await outside.settled(data)
            fill(disk)
            bought, refused = 1, 0
            while refused < refusals and bought < 300:  # what is left of its last pages is used up first
                status, body = await ask(proxy, f"fox {bought} " * 40)
                if status == 200:
                    bought += 1
                else:
                    refused += 1
                    assert (status, b"The disk of the index is full" in body) == (503, True)
            assert (refused, len(studio.sales)) == (refusals, bought)
            unfill(disk)
            await eventually(lambda: outside.is_settled(data), 30)
            assert (await ask(proxy, "a last fox"))[0] == 200
            await outside.settled(data)
        compare(data, sales=studio.sales, once=True).assert_clean()
        server.forget(data)
    record_figure("R54", refused=refusals, upstream_calls_of_these=0)
