"""Whatever is asked of the gallery: a list or a 400, soon, and nothing that its caller may not see (R64)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote_from_bytes

import orjson
import pytest
from yarl import URL

from benchmarks.collection import COLLECTION, MODELS, enter, image_id, vocabulary
from pixie_proxy.index import browsing
from pixie_proxy.web import filters
from pixie_proxy.web.queries import WALK
from tests.support.figures import RecordFigure
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, VIEWER_KEY, RunningProxy, run_proxy
from tests.web.browsing import HTML, sign_in

SEED = 64
MOST_MS = 200
AT_ONCE = 4
PEOPLE = {"alice": ADMIN_KEY, "bob": MEMBER_KEY, "dan": VIEWER_KEY}

SQL = [
    "' OR '1'='1", "' OR 1=1 --", '" OR ""="', "') OR ('1'='1", "admin'--", "'; DROP TABLE images; --",
    "1; ATTACH DATABASE 'x' AS x", "' UNION SELECT key_hash FROM keys --", "' UNION ALL SELECT NULL,NULL,NULL --",
    "x' AND (SELECT count(*) FROM users) > 0 --", "' AND sleep(9) --", "'||pg_sleep(9)||'",
    "' AND randomblob(1000000000) --", "1 AND 1=(SELECT 1 FROM images)", "'; PRAGMA user_version = 0; --",
    "\\'; SELECT 1; --", "'/**/OR/**/1=1", "%27%20OR%201=1", "' OR 'x' LIKE '%", ":viewer", ":owner_id", "?1", "@p",
    "$1", "%s", "{0}", "${7*7}", "id DESC; SELECT 1", "(SELECT id FROM users LIMIT 1)", "NULL", "null", "''", "'", ";",
    "--", "/*", "*/", "\\", "`id`", "[id]", "0x27204f5220313d31", "1e309", "' GROUP BY id HAVING 1=1 --",
    "' ORDER BY 99 --", "' INTO OUTFILE '/tmp/x", "x'; VACUUM INTO '/tmp/x'; --", "load_extension('x')",
]  # fmt: skip
WORDS = [
    '"', '""', '"""', "*", "**", "* *", "fo*", "*fo", "f*o", '"fo" *', "NEAR", "NEAR(photograph lantern, 3)",
    "photograph NEAR/2 lantern", "NEAR(", "photograph AND lantern", "photograph OR", "OR photograph", "NOT photograph",
    "photograph NOT lantern", "AND", "indexed:photograph", "indexed : photograph", "{indexed} : photograph",
    "- indexed : lantern", "-photograph", "^photograph", "photograph + lantern", "(photograph", "photograph)", "()",
    "photograph''lantern", "photograph\0lantern", "\0", '"photograph', 'photo"graph"', '" "', "photograph lantern" * 12,
    " ".join(["photo*"] * 40), " ".join("abcdefghijklmnopqrstuvwxyz"), "a* b* c* d* e* f* g* h*", "x" * 256, "x" * 257,
    '"' + "a " * 120 + '"', "\ue010", "\ue000photograph", "\ue012edit", "\U000f0000photograph", "rank",
    "integrity-check", "optimize", "delete", "photograph_lantern", "photograph.lantern", "p" * 64 + "*",
    "photograph lantern secretly",
]  # fmt: skip
PATTERNS = [
    "%",
    "_",
    "%%%",
    "\\%",
    "%photograph%",
    "a%b_c",
    "[a-z]*",
    "?",
    "%" * 250,
    "_" * 256,
    "(a+)+$",
    ".*",
]
LETTERS: list[str | bytes] = [
    "狐", "狐狸*", "キツネ", "señor", "\u0130", "ß", "ﷺ", "🦊", "👩‍👩‍👧", "e" + "\u0301" * 200, "\u202efox", "\ufeff",
    "\u2028", "\ud7ff", b"\xff\xfe", b"\xed\xa0\x80", b"\xc3", b"\xf4\x90\x80\x80", "\r\n", "\t",
    "a\r\nSet-Cookie: x=1", "\x7f", "\x1b[2J",
]  # fmt: skip
NUMBERS = [
    "0", "1", "20", "100", "101", "-1", "+5", " 5", "1.0", "1e3", "0x10", "NaN", "inf", "٣", "9" * 400, "00000001",
    "1_0",
]  # fmt: skip
TIMES = [
    "0", "1760000000", "-1", "253402300799", "253402300800", "9" * 30, "1e9", "2025-10-09", "2025-10-09T08:53:20Z",
    "2025-10-09T08:53:20+14:00", "2025-10-09 08:53", "2025-02-29", "2024-02-29", "0000-01-01", "9999-12-31T23:59:59Z",
    "10000-01-01", "2025-13-01", "2025-W41", "20251009", "now", "yesterday", "2025-10-09T08:53:20.123456789Z", "T", "-",
]  # fmt: skip
ANYTHING: list[str | bytes] = [*SQL, *WORDS, *PATTERNS, *LETTERS, *NUMBERS, *TIMES, ""]

Draw = Callable[[Random, int], str | bytes]
"""Draws a value that means something, for a collection of so many images."""

_SAID = vocabulary()
USUAL: dict[str, Draw] = {
    "q": lambda dice, _: " ".join(
        dice.choice(("", '"')) + word + dice.choice(("", "*", '"'))
        for word in dice.choices(
            ["photograph", "lantern", "secretly", "photo", "l", *_SAID[:50]], k=dice.randint(1, 4)
        )
    ),
    "owner": lambda dice, _: dice.choice(["me", "alice", "bob", "user7", "nobody"]),
    "model": lambda dice, _: dice.choice(MODELS),
    "kind": lambda dice, _: dice.choice(["generation", "edit", "variation"]),
    "visibility": lambda dice, _: dice.choice(["private", "team", "public"]),
    "deleted": lambda dice, _: dice.choice(["true", "false"]),
    "parent": lambda dice, images: image_id(dice.choice((0, dice.randrange(images)))),
    "tag": lambda dice, _: dice.choice(["wip", "best", "none"]),
    "favorite": lambda _, __: "true",
    "collection": lambda _, __: COLLECTION,
    "since": lambda dice, _: dice.choice(TIMES),
    "until": lambda dice, _: dice.choice(TIMES),
    "after": lambda dice, images: image_id(dice.randrange(images)),
    "before": lambda dice, images: image_id(dice.randrange(images)),
    "order": lambda dice, _: dice.choice(["asc", "desc"]),
    "limit": lambda dice, _: dice.choice(["1", "7", "100"]),
}
UNKNOWN = ("sort", "offset", "Q", "q[]", "limit;", "owner_id", "'", "order by", "\0", "page")


def draw(dice: Random, images: int) -> str:
    """Draw a query: a few names, one in four with a value that has no business there; now and then a name twice."""
    names = dice.sample(list(USUAL), dice.choice((1, 1, 2, 2, 3, 4)))
    if dice.random() < 0.3 and "q" not in names:
        names.append("q")
    if dice.random() < 0.03:
        names.append(dice.choice([*UNKNOWN, names[0]]))
    return "&".join(
        [f"{_quoted(name)}={_quoted(_value(dice, name, images))}" for name in names]
        + dice.choices(["", "&", "=", "%zz=%", "#", "q"], [95, 1, 1, 1, 1, 1])
    )


def _value(dice: Random, name: str, images: int) -> str | bytes:
    if name in USUAL and dice.random() < 0.75:
        return USUAL[name](dice, images)
    value = dice.choice(ANYTHING)
    if dice.random() < 0.05:
        value = dice.choice(["x", "%", '"a" ', "🦊", "a* "]) * dice.choice((300, 3000))
    return (
        value
        if dice.random() < 0.8 or isinstance(value, bytes)
        else f"{USUAL['after'](dice, images)!s}{value}"
    )


def _quoted(value: str | bytes) -> str:
    return quote_from_bytes(value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass"))


async def bombard(
    folder: Path, upstream_url: str, monkeypatch: pytest.MonkeyPatch, *, images: int, queries: int
) -> tuple[Counter[int], float]:
    """Ask a gallery by so many queries; give how often there was which status, and the slowest query's milliseconds."""
    async with run_proxy(folder, upstream_url):
        pass  # it makes the schema and the users
    await asyncio.to_thread(enter, folder / "pixie.db", images, "bob", ("bob", "dan"), lambda _: None)
    took_ms: list[float] = []
    page = browsing.page

    def timed(*args: Any, **options: Any) -> Any:
        begun = time.thread_time()
        try:
            return page(*args, **options)
        finally:
            took_ms.append((time.thread_time() - begun) * 1000)

    monkeypatch.setattr(browsing, "page", timed)
    async with run_proxy(folder, upstream_url) as proxy:
        cookie = (await sign_in(proxy)).cookie
        drawn = iter([draw(Random(SEED + number), images) for number in range(queries)])
        found = await asyncio.gather(*[_ask(proxy, drawn, cookie, Random(lane)) for lane in range(AT_ONCE)])
    return sum(found, Counter()), max(took_ms)


async def _ask(proxy: RunningProxy, drawn: Any, cookie: str, dice: Random) -> Counter[int]:
    statuses: Counter[int] = Counter()
    for query in drawn:
        name = dice.choice(list(PEOPLE))
        is_page = dice.random() < 0.1
        url = URL(f"{proxy.url}/{'' if is_page else 'v1/images'}?{query}", encoded=True)
        headers = {**HTML, "Cookie": cookie} if is_page else {"Authorization": f"Bearer {PEOPLE[name]}"}
        async with proxy.session.get(url, headers=headers, allow_redirects=False) as response:
            statuses[response.status] += 1
            body = await response.read()
        assert response.status in (200, 400), (query, response.status, body)
        if is_page:
            continue
        answer = orjson.loads(body)
        if response.status == 400:
            assert answer["error"]["type"] == "invalid_request_error", (query, answer)
            continue
        seen = [each for each in answer["data"] if not may_see(name, each)]
        assert not seen, (query, seen)
    return statuses


def may_see(name: str, image: dict[str, Any]) -> bool:
    return name == "alice" or image["owner"] == name or image["visibility"] != "private"


def test_names_are_those_of_the_list() -> None:
    """No filter comes without being asked here by everything."""
    assert set(USUAL) == WALK | filters.NAMES


async def test_no_query_breaks_the_gallery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A few of them, on a small collection."""
    statuses, slowest_ms = await bombard(
        tmp_path / "data", "http://127.0.0.1:9", monkeypatch, images=1000, queries=500
    )
    assert min(statuses[200], statuses[400]) > 50
    assert slowest_ms <= MOST_MS
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.torture
async def test_a_hundred_thousand_queries_break_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    record_figure: RecordFigure,
) -> None:
    """Of all parameters, with values that fit, and with injections, operators, patterns, broken text and odd times."""
    images, queries = 100_000, 100_000
    statuses, slowest_ms = await bombard(
        tmp_path / "data", "http://127.0.0.1:9", monkeypatch, images=images, queries=queries
    )
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    record_figure(
        "R64",
        images=images,
        queries=queries,
        lists=statuses[200],
        refusals=statuses[400],
        slowest_ms=round(slowest_ms, 1),
        violations=len(errors),
    )
    assert errors == []
    assert slowest_ms <= MOST_MS
