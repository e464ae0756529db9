"""A budget holds however many ask at once, in however many processes (R72); so does a rate (R70)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.conftest import KeepIndex
from tests.support import outside, postgres
from tests.support.figures import RecordFigure
from tests.support.ledgers import compare
from tests.support.proxy import RunningProxy, spawn_proxy
from tests.support.studio import Studio
from tests.support.waiting import eventually
from tests.test_two_processes import pixie

pytestmark = pytest.mark.system

GENERATIONS = "/v1/images/generations"
PRICE_MICROS = 40_000
FLAT = {"prices": {"gpt-image-2": {"usd_per_image": PRICE_MICROS / 1e6}}}
_RUNNING = "SELECT subject FROM accounts WHERE in_flight > 0 OR held_micros > 0"
_SAMPLED_BY_SQLITE = """
CREATE TABLE peaks (subject TEXT PRIMARY KEY, micros BIGINT);
CREATE TRIGGER sampled AFTER UPDATE ON accounts BEGIN
    INSERT INTO peaks VALUES (new.subject, new.spent_life_micros + new.held_micros)
    ON CONFLICT (subject) DO UPDATE SET micros = max(micros, excluded.micros);
END;
"""
_SAMPLED_BY_POSTGRES = """
CREATE TABLE peaks (subject TEXT PRIMARY KEY, micros BIGINT);
CREATE FUNCTION sampled() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO peaks VALUES (new.subject, new.spent_life_micros + new.held_micros)
    ON CONFLICT (subject) DO UPDATE SET micros = greatest(peaks.micros, excluded.micros);
    RETURN NULL;
END $$;
CREATE TRIGGER sampled AFTER UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION sampled();
"""


def watch_accounts(data_dir: Path) -> None:
    """Let the database itself remember the most that any account ever had spent and held."""
    if url := postgres.url_of(data_dir):
        postgres.execute(url, _SAMPLED_BY_POSTGRES)
        return
    with closing(sqlite3.connect(data_dir / "pixie.db", timeout=10)) as database:
        database.executescript(_SAMPLED_BY_SQLITE)


async def ask_all(proxies: list[RunningProxy], key: str, count: int) -> Counter[str]:
    """Send so many calls at once, in turn to each proxy; count how they ended."""
    start = asyncio.Barrier(count)

    async def ask(number: int) -> str:
        proxy = proxies[number % len(proxies)]
        await start.wait()
        status, headers, body = await proxy.request(
            "POST", GENERATIONS, json={"prompt": f"p{number}"}, key=key
        )
        if status == 200:
            return "admitted"
        error = orjson.loads(body)["error"]
        return f"{status} {error['code']} {headers.get('x-should-retry')}"

    return Counter(await asyncio.gather(*[ask(number) for number in range(count)]))


async def new_user(data: Path, **limits: str) -> str:
    """Add a user that has never called; give a key of its own with limits of its own."""
    await pixie(data, "user", "add", "zoe")
    options = [part for name, value in limits.items() for part in (f"--{name.replace('_', '-')}", value)]
    return await pixie(data, "key", "add", "zoe", *options)


@pytest.mark.parametrize(
    ("whose", "processes", "calls"),
    [
        ("user", 2, 60),
        *[pytest.param(each, 4, 1000, marks=pytest.mark.torture) for each in ("user", "key", "team")],
    ],
)
async def test_a_budget_is_never_passed(
    tmp_path: Path,
    record_figure: RecordFigure,
    keep_index: KeepIndex,
    whose: str,
    processes: int,
    calls: int,
) -> None:
    """$1.00 and calls of $0.04, all at once, the first that the user ever makes: 25, and never a micro over."""
    data, limit = tmp_path / "data", {"usd_total": 1.0}
    keep_index(data)
    sections: dict[str, Any] = {"models": FLAT}
    sections |= {"user": {"limits": limit}, "team": {"team": limit}}.get(whose, {})
    key = await new_user(data, **({"usd_total": "1"} if whose == "key" else {}))
    async with AsyncExitStack() as running, Studio() as studio:
        proxies = [
            await running.enter_async_context(spawn_proxy(data, studio.base_url, **sections))
            for _ in range(processes)
        ]
        watch_accounts(data)
        ended = await ask_all(proxies, key, calls)
        await eventually(lambda: not outside.rows(data, _RUNNING) and not outside.spooled(data))
        again = await ask_all(proxies, key, processes)
    report = compare(data, sales=studio.sales, once=True)
    peaks = {row["subject"]: row["micros"] for row in outside.rows(data, "SELECT * FROM peaks")}
    over = sum(micros > 25 * PRICE_MICROS for micros in peaks.values())
    record_figure(
        "R72",
        calls_at_once=calls,
        processes=processes,
        admitted=ended["admitted"],
        most_spent_and_held_usd=max(peaks.values()) / 1e6,
        violations=len(report.violations) + over + (ended["admitted"] != 25),
    )
    refused = "429 budget_exhausted false"
    assert ended == {"admitted": 25, refused: calls - 25}
    assert again == {refused: processes}
    assert (len(studio.sales), set(peaks.values())) == (25, {25 * PRICE_MICROS})
    report.assert_clean()


@pytest.mark.torture
async def test_a_rate_is_never_passed(
    tmp_path: Path, record_figure: RecordFigure, keep_index: KeepIndex
) -> None:
    """A thousand at once over four processes: as many as the limit says, by whatever name the key is shown."""
    limit = 6  # a minute: the next one comes after ten seconds, when all is over
    data = tmp_path / "data"
    keep_index(data)
    key = await new_user(data)
    async with AsyncExitStack() as running, Studio() as studio:
        limits = {"requests_per_minute": limit}
        proxies = [
            await running.enter_async_context(spawn_proxy(data, studio.base_url, limits=limits))
            for _ in range(4)
        ]
        ended = await ask_all(proxies, key, 1000)
        shown = [
            {"authorization": f"bearer {key}"},
            {"AUTHORIZATION": f"Bearer  {key}"},
            {"x-api-key": key},
            {"api-key": key},
            {"Authorization": f"Bearer {key}", "x-api-key": "px-other"},
        ]
        others = [
            (await proxies[0].request("POST", GENERATIONS, json={"prompt": "p"}, key=None, headers=headers))[
                0
            ]
            for headers in shown
        ]
    admitted = ended["admitted"]
    second = others.count(200)
    record_figure(
        "R70", calls_at_once=1000, processes=4, admitted=admitted, violations=(admitted != limit) + second
    )
    assert admitted == len(studio.sales) == limit
    assert second == 0
