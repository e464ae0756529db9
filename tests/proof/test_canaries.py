"""Secrets are nowhere but in their one place, in whatever form (R84)."""

from __future__ import annotations

import base64
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from tests.cli.running import pixie_here
from tests.support import outside
from tests.support.bucket_shop import BucketShop
from tests.support.figures import RecordFigure
from tests.support.pictures import png
from tests.support.proxy import (
    ADMIN_KEY,
    MEMBER_KEY,
    OTHER_KEY,
    UPSTREAM_KEY,
    VIEWER_KEY,
    RunningProxy,
    config_file,
    spawn_proxy,
)
from tests.support.upstream import ScriptedUpstream, body, cut, error_json, head, image_json, image_sse
from tests.test_logs import log_of
from tests.web.browsing import Browser, cookie_of, login
from tests.web.calling import raw_call

S3_SECRET = "s3secret/Canary+0123456789abcdefghij"
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
LOOKS = (
    "/v1/images", "/v1/requests", "/v1/usage?by=key", "/v1/usage?by=user&format=csv", "/v1/me", "/v1/models",
    "/v1/credits/balance", "/v1/admin/users", "/v1/admin/users/eve", "/v1/admin/keys", "/v1/admin/acts",
    "/metrics", "/healthz", "/readyz",
)  # fmt: skip
CAT = {"model": "gpt-image-2", "prompt": "a cat", "size": "1024x1024", "quality": "low"}


def forms(secret: str) -> set[bytes]:
    """Give all that would betray a secret: itself, halves, backwards, as base64 (anywhere in it), hex, URL and JSON."""
    raw, half = secret.encode(), len(secret) // 2
    shifted = (base64.b64encode(b"\0" * shift + raw)[4 if shift else 0 : -4] for shift in range(3))
    plain = {raw, raw[::-1], raw[:half], raw[half:], raw.hex().encode(), raw.hex().upper().encode()}
    escaped = {"".join(f"%{each:02x}" for each in raw), "".join(f"\\u{each:04x}" for each in raw)}
    encoded = {*shifted, *[text.encode() for text in escaped]}
    return plain | encoded | {text.translate(bytes.maketrans(b"+/", b"-_")) for text in encoded}


class Watch:
    """A proxy in use: every answer of it is kept, but for the one place where a new secret is told."""

    def __init__(self, proxy: RunningProxy) -> None:
        self.proxy = proxy
        self.secrets: dict[str, str] = {
            "upstream key": UPSTREAM_KEY, "S3 secret": S3_SECRET, "admin's key": ADMIN_KEY,
            "member's key": MEMBER_KEY, "other's key": OTHER_KEY, "viewer's key": VIEWER_KEY,
        }  # fmt: skip
        self.seen: dict[str, bytes] = {}

    async def ask(self, method: str, path: str, **options: Any) -> bytes:
        """Make a request and keep its answer."""
        status, headers, answer = await self.proxy.request(method, path, allow_redirects=False, **options)
        self.note(f"{method} {path}: {status}", headers, answer)
        return answer

    def note(self, what: str, headers: Mapping[str, str], answer: bytes) -> None:
        self.seen[f"{len(self.seen)} {what}"] = (
            "\n".join(f"{k}: {v}" for k, v in headers.items()).encode() + answer
        )

    async def new_key(self, name: str, path: str, sent: dict[str, Any]) -> dict[str, Any]:
        """Have a key made: its text is told here, once."""
        said = outside.json_of(await self.proxy.request("POST", path, json=sent, key=ADMIN_KEY))
        key: dict[str, Any] = said.get("first_key", said)
        self.secrets[name] = key.pop("key")
        self.note(f"POST {path}", {}, orjson.dumps(said))
        return key

    async def new_session(self, name: str, key: str) -> Browser:
        """Sign in: the cookie is told here, once."""
        status, headers, page = await login(self.proxy, key)
        assert status == 303
        browser = Browser(proxy=self.proxy, cookie=cookie_of(headers))
        self.secrets[name] = browser.token
        self.note("POST /login", {k: v for k, v in headers.items() if k != "Set-Cookie"}, page.encode())
        return browser


async def use(watch: Watch, upstream: ScriptedUpstream) -> None:
    """Do a bit of everything, with an upstream that tells its callers' key wherever it can."""
    told = f"no {UPSTREAM_KEY}"
    for script in (
        image_json([png(seed=1)], revised_prompt="a cat"),
        image_json([png(seed=2)], headers=[("x-leak", UPSTREAM_KEY), ("Set-Cookie", UPSTREAM_KEY)]),
        error_json(400, message=told),
        error_json(401, message=told),
        error_json(403, message=told, code="x"),
        error_json(500, message=told),
        [head(302, [("Location", f"http://127.0.0.1/{UPSTREAM_KEY}")])],
        [head(200, [("Content-Type", "text/html")]), body(told.encode())],
        [cut("rst")],
    ):
        upstream.script(*script)
        await watch.ask("POST", GENERATIONS, json=CAT, headers={"Idempotency-Key": f"once {len(watch.seen)}"})
    upstream.script(*image_sse([png(seed=3)], partials=1))
    await watch.ask("POST", GENERATIONS, json={**CAT, "stream": True})
    await watch.ask("POST", "/v1/images/estimate", json=CAT)

    user = await watch.new_key("new user's key", "/v1/admin/users", {"name": "eve", "role": "viewer"})
    await watch.new_key("new key", "/v1/admin/keys", {"user": "eve", "name": "bot"})
    await watch.new_key("rotated key", f"/v1/admin/keys/{user['id']}/rotate", {})
    revoked = await watch.new_key("revoked key", "/v1/admin/keys", {"user": "eve"})
    await watch.ask("DELETE", f"/v1/admin/keys/{revoked['id']}", key=ADMIN_KEY)

    browser = await watch.new_session("session", MEMBER_KEY)
    admin = await watch.new_session("admin's session", ADMIN_KEY)
    gone = await watch.new_session("ended session", MEMBER_KEY)
    await gone.post("/logout")
    ids = [image["id"] for image in (await watch.proxy.get("/v1/images"))["data"]]
    for each in (browser, admin):
        for path in ("/", f"/images/{ids[0]}", f"/v1/images/{ids[0]}", "/v1/me", "/nothing"):
            status, headers, page = await each.get(path)
            watch.note(f"GET {path}: {status}", headers, page.encode())
    for path in (*LOOKS, f"/v1/images/{ids[0]}/thumbnail"):
        await watch.ask("GET", path, key=ADMIN_KEY)
    for key in watch.secrets.values():
        await watch.ask("GET", "/v1/me", key=key[:-1])
        # An address that is none is told back to whoever sent it; the log must not have it.
        await watch.proxy.request("GET", f"/nothing/{quote(key, '')}?key={quote(key, '')}", key=None)
        await watch.ask("GET", "/v1/images?limit=x", key=None, headers={"X-Api-Key": key})
        for broken in (
            f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\x00\r\n\r\n",
            f"GET /{key} HTTP/9\r\nCookie: pixie={key}\r\n\r\n",
        ):
            answer = await raw_call(watch.proxy.url, broken.encode())
            watch.note("broken", answer.headers, answer.body)


def kept(data: Path, backup: Path) -> Iterator[tuple[str, bytes]]:
    """Give everything that lies on disk: index rows, then files, the index's own bytes among them."""
    with closing(sqlite3.connect(data / "pixie.db")) as database:
        tables = [
            row[0]
            for row in database.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE '%VIRTUAL TABLE%'"
            )
        ]
        select = "SELECT * FROM "  # of our own tables
        for table in tables:
            yield f"table {table}", repr(database.execute(select + table).fetchall()).encode()
    for root in (data, backup):
        for path in root.rglob("*"):
            if path.is_file():
                yield str(path), path.read_bytes()


@pytest.mark.parametrize(
    "kind", ["local", pytest.param("s3", marks=[pytest.mark.torture, pytest.mark.xdist_group("ceph")])]
)
async def test_no_secret_is_anywhere_else(
    tmp_path: Path,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    record_figure: RecordFigure,
    kind: str,
) -> None:
    """In no answer, log line at DEBUG, metric, row, file, backup or command line; what makes links: in its row."""
    monkeypatch.setenv("PIXIE_LOG_LEVEL", "debug")
    data, backup = tmp_path / "data", tmp_path / "backup"
    storage: dict[str, Any] = {"s3": {"secret_access_key": S3_SECRET, "access_key_id": "a"}}
    shop = BucketShop.open(data, request.getfixturevalue("ceph")) if kind == "s3" else None
    if shop is not None:
        storage = shop.storage
    async with spawn_proxy(data, upstream.base_url, storage=storage) as proxy:
        assert proxy.process is not None
        watch = Watch(proxy)
        if shop is not None:
            watch.secrets["S3 secret"] = shop.server.secret_key
        await use(watch, upstream)
        await outside.settled(data)
        if shop is not None:
            await shop.copy()
        config = config_file(data, upstream.base_url, storage=storage)
        made = await pixie_here("backup", str(backup), "--config", str(config), "--images")
        assert made.code == 0, made.err
        listed = [
            await pixie_here(*words, "--config", str(config)) for words in (("key", "list"), ("user", "list"))
        ]
        ran = Path(f"/proc/{proxy.process.pid}/cmdline").read_bytes()
        (row,) = outside.rows(data, "SELECT value FROM settings WHERE name = 'link_secret'")
        log = await log_of(proxy)
    told = {"log": log.encode(), "command line": ran, **watch.seen}
    told |= {f"command {at}": (each.out + each.err).encode() for at, each in enumerate([made, *listed])}
    stored = dict(kept(data, backup))
    links = forms(row["value"]) | {bytes.fromhex(row["value"])}
    hits = [
        f"{name} in {place}"
        for name, secret in watch.secrets.items()
        for form in forms(secret)
        for place, text in (told | stored).items()
        if form in text
    ]
    in_index = {place for place in stored if re.search(r"pixie\.db|table settings", place)}
    hits += [
        f"link secret in {place}"
        for place, text in (told | stored).items()
        if place not in in_index and any(form in text for form in links)
    ]
    record_figure(
        "R84",
        secrets=len(watch.secrets) + 1,
        forms=len(forms(MEMBER_KEY)),
        places=len(told) + len(stored),
        bytes_searched=sum(map(len, (told | stored).values())),
        violations=len(set(hits)),
    )
    assert sorted(set(hits)) == []
    assert any(form in text for text in stored.values() for form in links), "the search finds nothing at all"
    assert log.count("\n") > 60
    assert os.environ["PIXIE_LOG_LEVEL"] == "debug"
