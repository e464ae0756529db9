"""A month of a team, simulated a day at a time: the ledger and the provider's bill agree to the micro (R103).

The provider keeps its own bill with its own arithmetic. What it charged for calls whose outcome nobody knows here, or
that it reported nonsense of, is what `pixie usage reconcile` names, all of it and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import orjson
import pytest

from tests.cli.running import pixie_here
from tests.support import outside
from tests.support.clock import Clock
from tests.support.figures import RecordFigure
from tests.support.pictures import png
from tests.support.provider import LOW, MEDIUM, SQUARE, UPRIGHT, Mood, Provider, day_of
from tests.support.proxy import ADMIN_KEY, RunningProxy, spawn_proxy
from tests.support.waiting import eventually

SEED = 103
FIRST_DAY = day_of("2026-11-01")
NOON_S = 43_200
DAY_S = 86_400
ALIAS = "dall-e-3"
MODELS = ("gpt-image-2", "gpt-image-2.5-flare", "gpt-image-1-mini")
TEAM = {"usd_per_day": 2.0, "usd_per_month": 40.0}
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
_REQUEST = re.compile(r"req_\w{26}")

PEOPLE: list[dict[str, Any]] = [
    {"name": "day", "limits": {"usd_per_day": 0.10}, "keys": 2, "key_limits": {"usd_per_day": 0.05}},
    {"name": "prepaid", "limits": {"usd_total": 0.3}, "tops_up": True},
    {"name": "odd", "alias": True, "is_misreported": True, "rotates": True},
    {"name": "month", "limits": {"usd_per_month": 1.0}, "keys": 3},
    {"name": "streams", "streams": 1.0},
    {"name": "edits", "edits": 1.0, "limits": {"usd_per_day": 0.5, "usd_per_month": 2.0}},
    {"name": "images", "limits": {"images_per_day": 4}},
    {"name": "free", "keys": 2},
    {"name": "key budget", "key_limits": {"usd_per_month": 0.8}},
    {"name": "retries", "joins": 1.0},
]
"""The first three have of everything something, for the short run."""


@dataclass(slots=True, kw_only=True)
class Person:
    """Somebody of the team: what is asked for in their name, and how it ended."""

    name: str
    keys: list[str]
    key_ids: list[str]
    traits: dict[str, Any]
    ends: Counter[str] = field(default_factory=Counter)
    joined: int = 0

    async def live(self, proxy: RunningProxy, day: int, calls: int) -> None:
        """Make the calls of a day, one after the other."""
        for number in range(calls):
            prompt = f"{self.name}, call {number} of day {day}: " + "a fox in the snow, " * (1 + number % 3)
            random = Random(f"{SEED}/{prompt}")
            shared = (
                f"{self.name}/{day}/{number}" if random.random() < self.traits.get("joins", 0.1) else None
            )
            key = random.choice(self.keys)
            made = self._order(prompt, random)
            answers = await asyncio.gather(
                *[_buy(proxy, key, made, shared) for _ in range(1 if shared is None else 2)]
            )
            if len(answers) == 2 and answers[0] == answers[1] and answers[0][0] == "200":
                self.joined += 1
            self.ends[answers[0][0]] += 1

    def _order(self, prompt: str, random: Random) -> dict[str, Any]:
        is_old = bool(self.traits.get("alias")) and random.random() < 0.5
        return {
            "model": ALIAS if is_old else random.choice(MODELS),
            "prompt": prompt,
            "n": random.choice([1, 1, 2]),
            "size": SQUARE if is_old else random.choice([SQUARE, UPRIGHT]),
            "quality": "standard" if is_old else random.choices([LOW, MEDIUM], [5, 1])[0],
            "stream": random.random() < self.traits.get("streams", 0.3),
            "is_edit": random.random() < self.traits.get("edits", 0.2),
        }


async def _buy(proxy: RunningProxy, key: str, order: dict[str, Any], shared: str | None) -> tuple[str, bytes]:
    """Make a call; give how it ended, and what came."""
    headers = {} if shared is None else {"Idempotency-Key": shared}
    fields = {name: value for name, value in order.items() if name != "is_edit"}
    if fields["stream"]:
        fields["partial_images"] = 1
    body: dict[str, Any] = {"json": fields}
    if order["is_edit"]:
        form = aiohttp.FormData()
        for name, value in fields.items():
            form.add_field(name, str(value).lower() if isinstance(value, bool) else str(value))
        form.add_field("image", png(seed=7), filename="sketch.png", content_type="image/png")
        body = {"data": form}
    status, _, answer = await proxy.request(
        "POST", EDITS if order["is_edit"] else GENERATIONS, key=key, headers=headers, **body
    )
    code = "" if status == 200 else f" {orjson.loads(answer)['error']['code']}"
    return f"{status}{code}", answer


class Month:
    """A proxy whose clock is set, the provider behind it, and the people who use it."""

    def __init__(self, data: Path, clock: Clock, people: int) -> None:
        self.data = data
        self.people: list[Person] = []
        self._clock = clock
        self._traits = PEOPLE[:people]
        self._misreported = {each["name"] for each in self._traits if each.get("is_misreported")}
        self._offset_s = 0.0

    def now(self) -> float:
        """Tell the time that proxy and provider go by."""
        return time.time() + self._offset_s

    def set_day(self, day: int) -> None:
        """Step to the noon of a day."""
        self._offset_s = (FIRST_DAY + day) * DAY_S + NOON_S - time.time()
        self._clock.set(self._offset_s)

    def mood(self, prompt: str) -> Mood:
        """Tell how the provider takes a call."""
        random = Random(f"mood/{SEED}/{prompt}")
        if prompt.partition(",")[0] in self._misreported and random.random() < 0.2:
            return "misreport"
        moods: list[Mood] = ["sell", "refuse", "lose", "drop"]
        return random.choices(moods, [86, 6, 4, 4])[0]

    async def hire(self, proxy: RunningProxy) -> None:
        """Add everybody, with their keys and limits, by the admin API."""
        for traits in self._traits:
            made = await _done(proxy, "users", {"name": traits["name"], "limits": traits.get("limits", {})})
            person = Person(name=traits["name"], keys=[], key_ids=[], traits=traits)
            for number in range(traits.get("keys", 1)):
                limits = traits.get("key_limits", {}) if number == 0 else {}
                key = await _done(
                    proxy, "keys", {"user": made["id"], "name": f"key {number}", "limits": limits}
                )
                person.keys.append(key["key"])
                person.key_ids.append(key["id"])
            self.people.append(person)

    async def run(self, proxy: RunningProxy, days: int, calls: int) -> None:
        """Let the days pass; half-way the prepaid are topped up and a key is rotated, whose old text soon ends."""
        old: list[str] = []
        for day in range(days):
            self.set_day(day)
            if day == days // 2:
                for person in self.people:
                    await self._turn(proxy, person, old)
            elif day > days // 2:
                for text in old:
                    assert (await proxy.request("GET", "/v1/me", key=text))[0] == 401
            await asyncio.gather(*[person.live(proxy, day, calls) for person in self.people])
            await outside.settled(self.data)

    async def _turn(self, proxy: RunningProxy, person: Person, old: list[str]) -> None:
        if person.traits.get("tops_up"):
            ended = await pixie_here("user", "topup", person.name, "0.40", "--data", str(self.data))
            assert ended.code == 0, ended.err

            async def is_felt() -> bool:
                said = await proxy.get("/v1/credits/balance", person.keys[0])
                return bool(said["limit_usd"] == 0.7)

            await eventually(is_felt)
        if person.traits.get("rotates"):
            made = await _done(proxy, f"keys/{person.key_ids[0]}/rotate", {"overlap_s": DAY_S // 2})
            old.append(person.keys[0])
            person.keys.append(made["key"])  # both work today
            status, _, _ = await proxy.request("GET", "/v1/me", key=old[-1])
            assert status == 200
            person.keys = person.keys[1:]


async def _done(proxy: RunningProxy, what: str, body: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = outside.json_of(
        await proxy.request("POST", f"/v1/admin/{what}", json=body, key=ADMIN_KEY)
    )
    return said


@dataclass(frozen=True, slots=True)
class Books:
    """The ledger as the index has it: the calls, and what was corrected by request."""

    calls: list[dict[str, Any]]
    corrected: Counter[str]

    @classmethod
    def of(cls, data: Path) -> Books:
        calls = outside.rows(data, "SELECT * FROM requests ORDER BY id")
        corrections = outside.rows(data, "SELECT request_id, change_micros FROM corrections")
        return cls(calls, Counter({row["request_id"]: row["change_micros"] for row in corrections}))

    def cost(self, call: dict[str, Any]) -> int:
        return int(call["cost_micros"]) + self.corrected[call["id"]]

    def sums(self) -> dict[tuple[str, str], int]:
        """What each subject spent in each day, each month and ever: what the accounts and budgets count."""
        found: defaultdict[tuple[str, str], int] = defaultdict(int)
        for call in self.calls:
            day = time.strftime("%Y-%m-%d", time.gmtime(call["created_us"] // 1_000_000))
            for subject in ("team", call["user_id"], call["key_id"]):
                for span in (day, day[:7], ""):
                    found[subject, span] += self.cost(call)
        return found


async def reconcile(data: Path, export: str) -> dict[str, Any]:
    path = data.parent / "export"
    path.write_text(export)
    ended = await pixie_here("usage", "reconcile", str(path), "--json", "--data", str(data))
    assert ended.err == ""
    said: dict[str, Any] = json.loads(ended.out)
    assert ended.code == (0 if said["agrees"] else 1)
    return said


def named(said: dict[str, Any]) -> set[str]:
    """Give the requests that a reconciliation names; each of its differences must name some."""
    hints = [(each, " ".join(each["hints"])) for each in said["differences"]]
    unexplained = [each for each, hint in hints if not _REQUEST.search(hint)]
    assert unexplained == []
    return {found for _, hint in hints for found in _REQUEST.findall(hint)}


def passed(limits: Iterable[tuple[str, dict[str, Any]]], books: Books) -> list[str]:
    """Name each budget that was passed in any day or month, or ever, by a micro or more."""
    lengths = {"usd_per_day": 10, "usd_per_month": 7, "usd_total": 0}
    sums = books.sums()
    return [
        f"{subject} {span}: {micros} of {limit} {name}"
        for subject, told in limits
        for name, limit in told.items()
        for (whose, span), micros in sums.items()
        if name in lengths and whose == subject and len(span) == lengths[name] and micros > round(limit * 1e6)
    ]


@pytest.mark.parametrize(
    ("people", "days", "calls"), [(3, 3, 6), pytest.param(10, 30, 6, marks=pytest.mark.torture)]
)
async def test_a_month_reconciles_to_the_micro(
    tmp_path: Path, record_figure: RecordFigure, people: int, days: int, calls: int
) -> None:
    """Budgets, refusals, retries, streams, edits, unknown outcomes, nonsense: ledger, views and bill agree."""
    data = tmp_path / "data"
    clock = Clock(tmp_path)
    month = Month(data, clock, people)
    month.set_day(0)
    span = range(FIRST_DAY, FIRST_DAY + days)
    sections: dict[str, Any] = {"models": {"aliases": {ALIAS: "gpt-image-2"}}, "team": TEAM}
    async with (
        Provider(month.mood, month.now) as provider,
        spawn_proxy(data, provider.base_url, prefix=clock.prefix, **sections) as proxy,
    ):
        await month.hire(proxy)
        await month.run(proxy, days, calls)
        before = Books.of(data)
        untold = {
            call["id"] for call in before.calls if call["state"] == "unknown" or "no_usage" in call["flags"]
        }
        charged = {charge.prompt: charge.micros for charge in provider.charges}
        exports = (provider.costs_json, provider.costs_csv, provider.images_json)
        found = [await reconcile(data, export(span)) for export in exports]
        over = passed(_budgets(month), before)

        for call in before.calls:
            if call["id"] in untold:
                await _correct(data, call, charged.get(call["prompt"], 0))
        books = Books.of(data)
        after = [await reconcile(data, export(span)) for export in exports]
        tokens = await reconcile(data, provider.tokens_csv(span))
        wrong = await _wrong_views(proxy, month, books, days)
        assert await outside.terminate(proxy) == 0
    verified = await pixie_here("verify", "--data", str(data))
    differing = {
        call["id"]: (books.cost(call), charged.get(call["prompt"], 0))
        for call in books.calls
        if books.cost(call) != charged.get(call["prompt"], 0)
    }
    spent, billed = sum(map(books.cost, books.calls)), sum(charged.values())
    ends = sum((person.ends for person in month.people), Counter[str]())
    record_figure(
        "R103",
        seed=SEED,
        users=people,
        days=days,
        calls=sum(ends.values()),
        refused_by_budgets=ends["429 budget_exhausted"],
        joined=sum(person.joined for person in month.people),
        unknown_or_misreported=len(untold),
        billed_usd=billed / 1e6,
        micros_apart=abs(spent - billed),
        violations=len(over) + len(wrong) + len(differing) + (named(found[0]) != untold),
    )
    assert len(provider.charges) == len(charged), "one call was charged twice"
    assert named(found[0]) == untold
    assert named(found[1]) <= untold
    assert named(found[2]) <= untold
    assert [said["differences"] for said in after] == [[], [], []]
    assert named(tokens) <= untold
    assert (spent, differing) == (billed, {})
    assert over == []
    assert wrong == []
    assert verified.code == 0, verified.out
    assert {"200", "400 moderation_blocked", "429 budget_exhausted", "502 upstream_outcome_unknown"} <= set(
        ends
    ), ends
    assert len(untold) > 0 < sum(person.joined for person in month.people)


async def _correct(data: Path, call: dict[str, Any], micros: int) -> None:
    change = micros - call["cost_micros"]
    if change:
        said = ("--usd", f"{change / 1e6:.6f}", "--request", call["id"], "--reason", "the provider's bill")
        ended = await pixie_here("usage", "correct", *said, "--data", str(data))
        assert ended.code == 0, ended.err


def _budgets(month: Month) -> Iterable[tuple[str, dict[str, Any]]]:
    """Give whose budget is what; of the prepaid, what it was in the end."""
    users = {row["name"]: row["id"] for row in outside.rows(month.data, "SELECT id, name FROM users")}
    yield "team", TEAM
    for person in month.people:
        limits = dict(person.traits.get("limits", {}))
        yield users[person.name], limits | ({"usd_total": 0.7} if person.traits.get("tops_up") else {})
        yield person.key_ids[0], person.traits.get("key_limits", {})


async def _wrong_views(proxy: RunningProxy, month: Month, books: Books, days: int) -> list[str]:
    """Hold everything that tells of money against the ledger: usage by all four, balances, and the list of requests."""
    wrong: list[str] = []
    query = f"since={FIRST_DAY * DAY_S}&until={(FIRST_DAY + days) * DAY_S}"
    total = sum(map(books.cost, books.calls))
    for by in ("user", "key", "model", "day"):
        said = await proxy.get(f"/v1/usage?by={by}&{query}", ADMIN_KEY)
        if (
            not _micros(said["total"]["cost_usd"])
            == sum(_micros(row["cost_usd"]) for row in said["data"])
            == total
        ):
            wrong.append(f"usage by {by}: {said['total']}, not {total}")
    sums = books.sums()
    users = {row["name"]: row["id"] for row in outside.rows(month.data, "SELECT id, name FROM users")}
    last = time.strftime("%Y-%m-%d", time.gmtime((FIRST_DAY + days - 1) * DAY_S))
    spans = {"day": last, "month": last[:7], "total": ""}
    for person in month.people:
        for key, key_id in zip(person.keys, person.key_ids, strict=True):
            subjects = {"team": "team", "user": users[person.name], "key": key_id}
            for budget in (await proxy.get("/v1/credits/balance", key))["budgets"]:
                spent = sums.get((subjects[budget["subject"]], spans[budget["period"]]), 0)
                left = _micros(budget["limit_usd"]) - spent
                if (_micros(budget["spent_usd"]), _micros(budget["remaining_usd"])) != (spent, left):
                    wrong.append(f"{person.name}: {budget}, not {spent}")
        own = await proxy.get(f"/v1/usage?{query}", person.keys[0])
        if _micros(own["total"]["cost_usd"]) != sums[users[person.name], ""]:
            wrong.append(f"usage of {person.name}: {own['total']}")
    return wrong


def _micros(usd: float) -> int:
    return round(usd * 1_000_000)
