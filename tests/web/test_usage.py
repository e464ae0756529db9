"""GET /v1/usage: the ledger summed, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import time
from datetime import UTC, datetime
from typing import Any

from pixie_proxy.accounts import money
from pixie_proxy.index import Tx
from pixie_proxy.index.usage import By
from tests.support.proxy import ADMIN_KEY, OTHER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, error_json
from tests.web.calling import GENERATIONS, context_of, error_of
from tests.web.test_ledger import COST_USD, buy

SUMS = {"requests", "images", "failed", "unknown", "cost_usd", "held_usd"}


async def test_each_sees_the_own_and_the_admin_all(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """By user, dearest first; a name that is not theirs is as one that nobody has."""
    for key, times in ((OTHER_KEY, 2), (ADMIN_KEY, 1)):
        for _ in range(times):
            await buy(proxy, upstream, key, n=2)
    upstream.script(error_json(400, code="moderation_blocked"))
    await proxy.request("POST", GENERATIONS, json={"prompt": "no"}, key=OTHER_KEY)

    said = await proxy.get("/v1/usage?by=user", ADMIN_KEY)
    assert [(row["user"], row["requests"], row["images"], row["failed"]) for row in said["data"]] == [
        ("carol", 3, 4, 1),
        ("alice", 1, 2, 0),
    ]
    assert [row["cost_usd"] for row in said["data"]] == [2 * COST_USD, COST_USD]
    total = {"requests": 4, "images": 6, "failed": 1, "unknown": 0, "cost_usd": 3 * COST_USD, "held_usd": 0}
    assert said["total"] == total
    own = await proxy.get("/v1/usage?by=user", OTHER_KEY)
    assert own["data"] == said["data"][:1]
    assert (await proxy.get("/v1/usage?by=user&owner=carol", ADMIN_KEY))["data"] == own["data"]
    assert (await proxy.get("/v1/usage?by=user&owner=carol", OTHER_KEY))["data"] == own["data"]
    for query, key in (("owner=alice", OTHER_KEY), ("owner=nobody", OTHER_KEY), ("owner=nobody", ADMIN_KEY)):
        assert (await proxy.get(f"/v1/usage?{query}", key))["data"] == [], query


async def test_by_model_key_and_day(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Each group has its own name, and all of them the same sums."""
    for model in ("gpt-image-2", "gpt-image-2.5-flare", "gpt-image-2"):
        await buy(proxy, upstream, model=model)
    models = (await proxy.get("/v1/usage?by=model"))["data"]
    assert [(row["model"], row["requests"]) for row in models] == [
        ("gpt-image-2", 2),
        ("gpt-image-2.5-flare", 1),
    ]
    (key,) = (await proxy.get("/v1/usage?by=key"))["data"]
    assert (key["user"], key["key_name"], key["requests"]) == ("bob", "declared", 3)
    (day,) = (await proxy.get("/v1/usage"))["data"]
    assert day["day"] == f"{datetime.now(UTC):%Y-%m-%d}"
    assert all(set(row) > SUMS for row in (*models, key, day))
    assert day["cost_usd"] == 3 * COST_USD


async def test_corrections_are_in_it(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """By each of the four, so that what was spent is what the balance says; for those who may see it."""
    request_id = await buy(proxy, upstream)

    def work(tx: Tx) -> None:
        for name, micros, request in (
            (None, -1000, request_id),
            ("bob", 500, None),
            (None, 7, None),
            ("carol", 9, None),
        ):
            money.correct(
                tx,
                change_micros=micros,
                reason="r",
                name=name,
                request_id=request,
                now_us=time.time_ns() // 1000,
            )

    await context_of(proxy).index.write(work)
    spent = round(COST_USD * 1e6) - 1000 + 500

    def micros(rows: list[dict[str, Any]], name: str) -> dict[str | None, int]:
        return {row[name]: round(row["cost_usd"] * 1e6) for row in rows}

    (key,) = [row["key"] for row in (await proxy.get("/v1/usage?by=key"))["data"] if row["key"]]
    for by, own, team in (
        ("user", {"bob": spent}, {"carol": 9, None: 7}),
        ("key", {key: spent - 500, None: 500}, {None: 516}),
        ("model", {"gpt-image-2": spent - 500, None: 500}, {None: 516}),
        ("day", {f"{datetime.now(UTC):%Y-%m-%d}": spent}, {f"{datetime.now(UTC):%Y-%m-%d}": spent + 16}),
    ):
        said = await proxy.get(f"/v1/usage?by={by}")
        assert micros(said["data"], by) == own
        assert (said["total"]["requests"], said["total"]["images"]) == (1, 1)
        all_of_it = await proxy.get(f"/v1/usage?by={by}", ADMIN_KEY)
        assert micros(all_of_it["data"], by) == own | team
        assert round(all_of_it["total"]["cost_usd"] * 1e6) == spent + 16


async def test_times_are_half_open_and_begin_with_the_month(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """A call admitted at `since` is in, one at `until` is out, to the microsecond; last month's only if asked for."""
    request_id = await buy(proxy, upstream)
    index = context_of(proxy).index
    last_month_us = 1_700_000_000_000_000  # in November 2023

    def back_then(tx: Tx) -> int:
        return tx.run("UPDATE requests SET created_us = :at WHERE id = :id", at=last_month_us, id=request_id)

    await index.write(back_then)
    assert (await proxy.get("/v1/usage"))["data"] == []
    at_s = last_month_us // 1_000_000
    for since, until, found in ((at_s, at_s + 1, 1), (at_s + 1, at_s + 2, 0), (at_s - 1, at_s, 0)):
        said = await proxy.get(f"/v1/usage?since={since}&until={until}")
        assert said["total"]["requests"] == found
        assert (said["since"], said["until"]) == (since, until)
    assert (await proxy.get(f"/v1/usage?since={at_s}"))["data"][0]["day"] == "2023-11-14"


async def test_bad_queries(proxy: RunningProxy) -> None:
    """What is misspelt is named, and nothing is summed."""
    for query, param in (
        ("by=colour", "by"),
        ("format=xml", "format"),
        ("since=yesterday", "since"),
        ("since=2026-02-01&until=2026-01-01", "since"),
        ("page=2", "page"),
    ):
        status, _, body = await proxy.request("GET", f"/v1/usage?{query}")
        assert (status, error_of(body)["param"]) == (400, param), query


async def test_csv_is_the_same_table(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Same rows, same names; a download that no cache keeps, and no cell that a spreadsheet would run."""
    await buy(proxy, upstream)
    index = context_of(proxy).index
    await index.write(lambda tx: tx.run("UPDATE users SET name = '=1+1' WHERE name = 'bob'"))
    by: By
    for by in ("user", "key", "model", "day"):
        status, headers, body = await proxy.request("GET", f"/v1/usage?by={by}&format=csv", key=ADMIN_KEY)
        assert status == 200
        assert headers["Content-Type"] == "text/csv; charset=utf-8"
        assert headers["Content-Disposition"] == f'attachment; filename="usage-by-{by}.csv"'
        assert headers["Cache-Control"] == "private, no-store"
        (row,) = csv.DictReader(io.StringIO(body.decode()))
        (wanted,) = (await proxy.get(f"/v1/usage?by={by}", ADMIN_KEY))["data"]
        assert list(row) == list(wanted)
        assert row["cost_usd"] == f"{COST_USD:.6f}"
        assert row.get("user") in {None, "'=1+1"}
    _, _, empty = await proxy.request("GET", "/v1/usage?by=day&format=csv", key=OTHER_KEY)
    assert empty.decode().splitlines() == ["day,requests,images,failed,unknown,cost_usd,held_usd"]
