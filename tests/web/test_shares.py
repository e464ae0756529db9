"""Shares: who may make them, what they open, and that whatever ends one ends it at once, everywhere."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pixie_proxy.gallery import passwords, shares
from pixie_proxy.gallery.shares import MOST, UNLOCKED_S
from pixie_proxy.index import Tx
from pixie_proxy.index import shares as stored
from pixie_proxy.web import attempts
from tests.support.pictures import png, svg
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, OTHER_KEY, VIEWER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.support.waiting import eventually
from tests.web.browsing import HTML, cookie_of, make, sign_in
from tests.web.calling import context_of, error_of
from tests.web.conftest import ProxyWith

PASSWORD = "correct horse"
SECONDS = 1_000_000


@dataclass(slots=True)
class Clock:
    """The time as shares see it, in µs."""

    now_us: int


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stop the time of shares; tests move it."""
    stopped = Clock(now_us=time.time_ns() // 1000)
    monkeypatch.setattr(shares, "_now_us", lambda: stopped.now_us)
    return stopped


@pytest.fixture
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make hashing cost next to nothing where many are made."""
    monkeypatch.setattr(passwords, "LOG2_N", 4)


async def share(proxy: RunningProxy, image_id: str, key: str = MEMBER_KEY, **said: Any) -> dict[str, Any]:
    status, _, body = await proxy.request("POST", f"/v1/images/{image_id}/shares", key=key, json=said)
    assert status == 200, body
    made: dict[str, Any] = json.loads(body)
    assert made["object"] == "share"
    return made


Answer = tuple[int, Mapping[str, str], bytes]


async def visit(proxy: RunningProxy, made: dict[str, Any] | str, rest: str = "", **headers: str) -> Answer:
    """Open a link, or what lies below it, as somebody without an account."""
    path = made if isinstance(made, str) else urlsplit(made["url"]).path
    return await proxy.request("GET", path + rest, key=None, headers={**HTML, **headers})


async def unlock(proxy: RunningProxy, made: dict[str, Any], password: str, **headers: str) -> Answer:
    """Send the form of a link with a password."""
    return await proxy.request(
        "POST",
        urlsplit(made["url"]).path,
        key=None,
        data={"password": password},
        headers={**HTML, "Origin": proxy.url, **headers},
        allow_redirects=False,
    )


async def unlocked(proxy: RunningProxy, made: dict[str, Any]) -> str:
    """Give the cookie of a link that was opened with its password."""
    status, headers, _ = await unlock(proxy, made, PASSWORD)
    assert (status, headers["Location"]) == (303, urlsplit(made["url"]).path)
    return cookie_of(headers)


BELOW = ("", "/content", "/thumbnail", "/thumbnail?size=512")
UNKNOWN = "/s/" + "A" * 32


async def assert_dead(proxy: RunningProxy, made: dict[str, Any], **headers: str) -> None:
    """Page, image, thumbnails and their 304s answer as those of a link that never was: the same bytes and headers."""
    for below in BELOW:
        for accept in (HTML, {"Accept": "*/*"}):
            for sent in ({}, {"If-None-Match": "*"}, {"Range": "bytes=0-1"}):
                dead, unknown = [
                    await visit(proxy, path, below, **{**headers, **accept, **sent})
                    for path in (urlsplit(made["url"]).path, UNKNOWN)
                ]
                assert dead[0] == 404
                assert _plain(dead) == _plain(unknown)
    dead, unknown = [await unlock(proxy, each, PASSWORD) for each in (made, {"url": f"{proxy.url}{UNKNOWN}"})]
    assert (dead[0], _plain(dead)) == (404, _plain(unknown))


def _plain(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    status, headers, body = answer
    own = {"x-request-id", "date"}
    return status, {name: value for name, value in headers.items() if name.lower() not in own}, body


async def test_a_link_opens_one_image_to_anyone(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """The page, the image as it was made, and its thumbnails; no prompt, no owner and no account."""
    picture = png(900, 300)
    upstream.default(image_json([picture]))
    (image_id,) = await make(proxy, "a secret prompt")
    made = await share(proxy, image_id)
    assert re.fullmatch(re.escape(proxy.url) + r"/s/[A-Za-z0-9_-]{32}", made["url"])
    assert {**made, "id": "", "url": "", "created": 0} == {
        "id": "",
        "object": "share",
        "image_id": image_id,
        "url": "",
        "created": 0,
        "expires_at": None,
        "revoked_at": None,
        "has_password": False,
        "show_prompt": False,
        "views": 0,
    }
    status, headers, page = await visit(proxy, made)
    assert status == 200
    assert headers["Cache-Control"] == "private, no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    text = page.decode()
    assert f'<meta property="og:url" content="{made["url"]}">' in text
    assert f'<meta property="og:image" content="{made["url"]}/thumbnail?size=512">' in text
    assert '<meta name="twitter:card" content="summary_large_image">' in text
    assert "<script" not in text
    assert not any(told in text for told in ("secret prompt", "bob", "gpt-image"))
    status, headers, body = await visit(proxy, made, "/content")
    assert (status, body) == (200, picture)
    status, thumbnail_headers, _ = await visit(proxy, made, "/thumbnail?size=512")
    assert (status, thumbnail_headers["Content-Type"]) == (200, "image/webp")
    for each in (headers, thumbnail_headers):
        assert each["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert each["Cache-Control"] == "private, no-cache"
        assert each["Referrer-Policy"] == "no-referrer"
        assert each["X-Content-Type-Options"] == "nosniff"
        assert "Cookie" in each["Vary"]
    assert (await visit(proxy, made, "/content", **{"If-None-Match": headers["ETag"]}))[0] == 304
    status, _, body = await visit(proxy, made, "/content", Range="bytes=1-3")
    assert (status, body) == (206, picture[1:4])


async def test_the_prompt_is_shown_where_the_sharer_wants(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """On the page and in its preview, as text; a picture that no crawler draws has no preview."""
    upstream.default(image_json([svg()]))
    (image_id,) = await make(proxy, "a <b>bold</b> prompt")
    _, _, page = await visit(proxy, await share(proxy, image_id, show_prompt=True))
    assert b'<meta property="og:title" content="a &lt;b&gt;bold&lt;/b&gt; prompt">' in page
    assert b"a &lt;b&gt;bold&lt;/b&gt; prompt</h1>" in page
    assert b"<b>bold" not in page
    assert b"og:image" not in page
    assert b"<svg" not in page


@pytest.mark.parametrize("lifetime_s", [1, 3600])
async def test_a_link_expires_on_the_second(proxy: RunningProxy, clock: Clock, lifetime_s: int) -> None:
    """Open until its last microsecond, and not for one more; a clock that is set back opens it no longer than said."""
    (image_id,) = await make(proxy)
    made = await share(proxy, image_id, expires_in_s=lifetime_s)
    end_us = clock.now_us + lifetime_s * SECONDS
    assert made["expires_at"] == end_us // SECONDS
    clock.now_us = end_us - 1
    for below in BELOW:
        assert (await visit(proxy, made, below))[0] == 200
    clock.now_us = end_us
    await assert_dead(proxy, made)
    clock.now_us = end_us + 10 * 365 * 86_400 * SECONDS
    await assert_dead(proxy, made)


@pytest.mark.parametrize(
    "how", ["share", "form", "narrow", "revoke_url", "trash", "trash and back", "by hand", "purge"]
)
async def test_what_ends_a_link_ends_it_at_once(proxy: RunningProxy, how: str) -> None:
    """Revoked, hidden or deleted: the next request of any kind finds nothing, not even a 304."""
    (image_id,) = await make(proxy)
    made, other = await share(proxy, image_id), await share(proxy, image_id)
    etag = (await visit(proxy, made, "/content"))[1]["ETag"]
    browser = await sign_in(proxy)
    path = f"/v1/images/{image_id}"
    if how == "share":
        status, _, body = await proxy.request("DELETE", f"{path}/shares/{made['id']}")
        assert json.loads(body) == {"id": made["id"], "object": "share", "revoked": True}
    elif how == "form":
        status, _, _ = await browser.post(f"/images/{image_id}/shares/{made['id']}/revoke")
    elif how == "narrow":
        status, _, _ = await proxy.request("POST", path, json={"visibility": "private"})
    elif how == "revoke_url":
        status, _, _ = await proxy.request("POST", path, json={"revoke_url": True})
    elif how == "by hand":
        deleting = "UPDATE images SET deleted_us = 1 WHERE id = :id"  # which leaves the link epoch as it is
        status = 200 * await context_of(proxy).index.write(lambda tx: tx.run(deleting, id=image_id))
    else:
        status, _, _ = await proxy.request("DELETE", path)
    if how == "trash and back":
        await proxy.request("POST", f"{path}/restore")
    if how == "purge":
        await context_of(proxy).index.write(
            lambda tx: tx.run("DELETE FROM images WHERE id = :id", id=image_id)
        )
        counted = await context_of(proxy).index.read(lambda tx: tx.one("SELECT count(*) AS n FROM shares"))
        assert counted is not None
        assert counted["n"] == 0
    assert status in {200, 303}
    await assert_dead(proxy, made, **{"If-None-Match": etag})
    assert ((await visit(proxy, other))[0] == 200) == (how in {"share", "form"})
    if how in {"share", "narrow", "trash and back"}:
        (_, listed) = (await proxy.get(f"{path}/shares"))["data"]
        assert abs(listed["revoked_at"] - time.time()) < 5


async def test_links_go_with_their_owner(proxy: RunningProxy) -> None:
    """Who is deleted has no links from that moment on, before any image has gone."""
    status, _, body = await proxy.request("POST", "/v1/admin/users", key=ADMIN_KEY, json={"name": "fay"})
    assert status == 200
    key = json.loads(body)["first_key"]["key"]
    (image_id,) = await make(proxy, key=key)
    made = await share(proxy, image_id, key)
    assert (await visit(proxy, made))[0] == 200
    status, _, _ = await proxy.request("DELETE", "/v1/admin/users/fay?confirm=fay", key=ADMIN_KEY)
    assert status == 200
    await assert_dead(proxy, made)


async def test_revoking_twice_is_no_fault(proxy: RunningProxy) -> None:
    """And says when it was revoked first."""
    (image_id,) = await make(proxy)
    path = f"/v1/images/{image_id}/shares"
    made = await share(proxy, image_id)
    for _ in range(2):
        assert (await proxy.request("DELETE", f"{path}/{made['id']}"))[0] == 200
    for unknown in ("shr_" + "0" * 26, "x", image_id):
        status, _, body = await proxy.request("DELETE", f"{path}/{unknown}")
        assert (status, error_of(body)["code"]) == (404, "not_found")


async def test_a_link_outlives_keys(proxy: RunningProxy) -> None:
    """Whoever shared may rotate their key, or lose it: what they shared goes on, until it is ended."""
    (image_id,) = await make(proxy)
    status, _, body = await proxy.request(
        "POST", "/v1/admin/keys", key=ADMIN_KEY, json={"user": "bob", "name": "new"}
    )
    assert status == 200
    key = json.loads(body)
    made = await share(proxy, image_id, key["key"])
    await proxy.request("POST", f"/v1/admin/keys/{key['id']}/rotate", key=ADMIN_KEY, json={"overlap_s": 0})
    assert (await proxy.request("GET", "/v1/me", key=key["key"]))[0] == 401
    assert (await visit(proxy, made))[0] == 200
    await proxy.request("DELETE", f"/v1/admin/keys/{key['id']}", key=ADMIN_KEY)
    assert (await visit(proxy, made, "/content"))[0] == 200


async def test_a_password_opens_one_link(proxy: RunningProxy, clock: Clock) -> None:
    """Before: a form, and no trace of the image. After: this link, in this browser, for an hour; no other."""
    (image_id,) = await make(proxy, "a secret prompt")
    made, other = [
        await share(proxy, image_id, password=PASSWORD, show_prompt=True, expires_in_s=7200) for _ in "12"
    ]
    assert made["has_password"] is True
    status, headers, page = await visit(proxy, made)
    assert (status, headers["Referrer-Policy"]) == (200, "same-origin")
    assert b'name="password" type="password"' in page
    assert not any(told in page for told in (b"og:image", b"secret prompt", image_id.encode(), b'content"'))
    for below in BELOW[1:]:
        assert _plain(await visit(proxy, made, below)) == _plain(await visit(proxy, UNKNOWN, below))
    status, headers, page = await unlock(proxy, made, "wrong")
    assert (status, "Set-Cookie" in headers) == (401, False)
    assert b"That is not the password" in page
    status, headers, _ = await unlock(proxy, made, PASSWORD)
    attributes = set(headers["Set-Cookie"].split("; ")[1:])
    assert attributes == {
        f"Path={urlsplit(made['url']).path}",
        f"Max-Age={UNLOCKED_S}",
        "HttpOnly",
        "SameSite=Lax",
    }
    cookie = cookie_of(headers)
    for below in BELOW:
        assert (await visit(proxy, made, below, Cookie=cookie))[0] == 200
        assert (await visit(proxy, made, below))[0] == (404 if below else 200)
    assert b"secret prompt" in (await visit(proxy, made, Cookie=cookie))[2]
    assert b"og:image" not in (await visit(proxy, made, Cookie=cookie))[2]
    assert (await visit(proxy, other, "/content", Cookie=cookie))[0] == 404
    end_s, _, signature = cookie.partition("=")[2].partition(".")
    for forged in (f"{int(end_s) + 1}.{signature}", f"{end_s}.{'0' * 64}", f"{end_s}.", "x", f".{signature}"):
        assert (await visit(proxy, made, "/content", Cookie=f"pixie-share={forged}"))[0] == 404
    clock.now_us = (int(end_s) - 1) * SECONDS
    assert (await visit(proxy, made, "/content", Cookie=cookie))[0] == 200
    clock.now_us = int(end_s) * SECONDS
    assert (await visit(proxy, made, "/content", Cookie=cookie))[0] == 404


async def test_revoking_ends_what_a_password_opened(proxy: RunningProxy) -> None:
    """With the cookie in hand."""
    (image_id,) = await make(proxy)
    made = await share(proxy, image_id, password=PASSWORD)
    cookie = await unlocked(proxy, made)
    await proxy.request("DELETE", f"/v1/images/{image_id}/shares/{made['id']}")
    await assert_dead(proxy, made, Cookie=cookie)


async def test_the_cookie_is_secure_where_there_is_tls(proxy_with: ProxyWith) -> None:
    """And is named so that browsers keep plain http from setting it."""
    proxy = await proxy_with(server={"public_url": "https://images.example.org"})
    (image_id,) = await make(proxy)
    made = await share(proxy, image_id, password=PASSWORD)
    assert made["url"].startswith("https://images.example.org/s/")
    _, headers, _ = await unlock(proxy, made, PASSWORD, Origin="https://images.example.org")
    assert headers["Set-Cookie"].startswith("__Secure-pixie-share=")
    assert "Secure" in headers["Set-Cookie"].split("; ")


async def test_another_site_sends_no_passwords(proxy: RunningProxy) -> None:
    """It could use up the tries of whoever looks at it."""
    (image_id,) = await make(proxy)
    made = await share(proxy, image_id, password=PASSWORD)
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert (await unlock(proxy, made, PASSWORD, **headers))[0] == 403


@pytest.mark.usefixtures("cheap_passwords")
async def test_wrong_passwords_are_limited_by_link(proxy_with: ProxyWith) -> None:
    """Ten a minute, from wherever they come and however many at once; the right one waits as well, others do not."""
    proxy = await proxy_with(server={"trusted_proxies": ["127.0.0.1"]})
    (image_id,) = await make(proxy)
    made, other = [await share(proxy, image_id, password=PASSWORD) for _ in "12"]
    answers = await asyncio.gather(
        *[unlock(proxy, made, "wrong", **{"X-Forwarded-For": f"192.0.2.{n}"}) for n in range(14)]
    )
    assert sorted(status for status, _, _ in answers) == [401] * attempts.PER_ADDRESS + [429] * 4
    status, headers, page = await unlock(proxy, made, PASSWORD, **{"X-Forwarded-For": "192.0.2.99"})
    assert (status, 1 <= int(headers["Retry-After"]) <= 6) == (429, True)
    assert b"Too many tries" in page
    assert (await unlock(proxy, other, PASSWORD, **{"X-Forwarded-For": "192.0.2.99"}))[0] == 303


@pytest.mark.usefixtures("cheap_passwords")
async def test_wrong_passwords_are_limited_by_address(proxy_with: ProxyWith) -> None:
    """Ten a minute for all links together; right ones take nothing."""
    proxy = await proxy_with(server={"trusted_proxies": ["127.0.0.1"]})
    (image_id,) = await make(proxy)
    links = [await share(proxy, image_id, password=PASSWORD) for _ in range(3)]
    for _ in range(2 * attempts.PER_ADDRESS):
        assert (await unlock(proxy, links[0], PASSWORD))[0] == 303
    statuses = [(await unlock(proxy, links[n % 2], "wrong"))[0] for n in range(11)]
    assert statuses == [401] * attempts.PER_ADDRESS + [429]
    assert (await unlock(proxy, links[2], PASSWORD))[0] == 429
    assert (await unlock(proxy, links[2], PASSWORD, **{"X-Forwarded-For": "192.0.2.99"}))[0] == 303


async def test_who_comes_when_many_wait_is_told_to(
    proxy: RunningProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashing is one at a time, and the line before it is short."""
    (image_id,) = await make(proxy)
    made = await share(proxy, image_id, password=PASSWORD)
    monkeypatch.setattr(passwords, "MOST_WAITING", 1)
    async with context_of(proxy).shares.passwords.turn():
        status, headers, _ = await unlock(proxy, made, PASSWORD)
        assert (status, headers["Retry-After"]) == (429, "3")
        status, _, _ = await proxy.request(
            "POST", f"/v1/images/{image_id}/shares", json={"password": PASSWORD}
        )
        assert status == 429
    assert (await unlock(proxy, made, PASSWORD))[0] == 303


async def test_secrets_are_nowhere(proxy: RunningProxy, caplog: pytest.LogCaptureFixture) -> None:
    """Neither password nor token in an address, in a log at any level, in an answer, or on disk."""
    caplog.set_level(logging.DEBUG)
    (image_id,) = await make(proxy)
    made = await share(proxy, image_id, password=PASSWORD)
    wrong = "wrong battery staple"
    answers = [await unlock(proxy, made, wrong), await unlock(proxy, made, PASSWORD)]
    cookie = cookie_of(answers[1][1])
    answers += [await visit(proxy, made, below, Cookie=cookie) for below in BELOW]
    answers += [await visit(proxy, made, below) for below in BELOW]
    answers += [await proxy.request("GET", f"/v1/images/{image_id}/shares")]
    browser = await sign_in(proxy)
    _, _, page = await browser.get(f"/images/{image_id}")
    token = made["url"].rpartition("/")[2]
    logged = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    on_disk = b"".join(path.read_bytes() for path in _files(proxy.data_dir))
    for secret in (PASSWORD, wrong):
        assert secret not in logged
        assert secret.encode() not in on_disk
        assert not any(secret in f"{headers}{body!r}" for _, headers, body in answers)
    assert token not in logged
    assert token.encode() not in on_disk
    assert token not in page
    assert token not in str(answers[-1])
    assert "/s/{token}" in logged


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_views_are_counted(proxy: RunningProxy) -> None:
    """The page with the image, once a look: not the form before it, not HEAD, not the picture by itself."""
    (image_id,) = await make(proxy)
    plain, locked = await share(proxy, image_id), await share(proxy, image_id, password=PASSWORD)
    await asyncio.gather(*[visit(proxy, plain) for _ in range(20)])
    await proxy.request("HEAD", urlsplit(plain["url"]).path, key=None)
    await visit(proxy, plain, "/content")
    await visit(proxy, locked)
    await visit(proxy, locked, Cookie=await unlocked(proxy, locked))

    async def counted() -> bool:
        listed = (await proxy.get(f"/v1/images/{image_id}/shares"))["data"]
        return {each["id"]: each["views"] for each in listed} == {plain["id"]: 20, locked["id"]: 1}

    await eventually(counted)


async def test_owner_and_admins_share(proxy: RunningProxy) -> None:
    """Others who see the image may not; to whom it is private, it is not there."""
    (image_id,) = await make(proxy)
    path = f"/v1/images/{image_id}/shares"
    made = [await share(proxy, image_id, key) for key in (MEMBER_KEY, ADMIN_KEY)]
    for key, status in ((OTHER_KEY, 403), (VIEWER_KEY, 403), (None, 401)):
        for method, where in (("POST", path), ("GET", path), ("DELETE", f"{path}/{made[0]['id']}")):
            sent: dict[str, Any] = {"json": {}} if method == "POST" else {}
            assert (await proxy.request(method, where, key=key, **sent))[0] == status, (key, method)
    for key in (MEMBER_KEY, ADMIN_KEY):
        page = await proxy.get(path, key)
        assert [each["id"] for each in page["data"]] == [each["id"] for each in reversed(made)]
        assert [each["url"] for each in page["data"]] == [None, None]
        assert (page["object"], page["has_more"]) == ("list", False)
    (foreign,) = await make(proxy, key=OTHER_KEY)
    status, _, _ = await proxy.request(
        "DELETE", f"/v1/images/{foreign}/shares/{made[0]['id']}", key=OTHER_KEY
    )
    assert status == 404
    assert (await visit(proxy, made[0]))[0] == 200


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"expires_in_s": 0}, "expires_in_s"),
        ({"expires_in_s": 315_360_001}, "expires_in_s"),
        ({"expires_in_s": 1.5}, "expires_in_s"),
        ({"expires_in_s": True}, "expires_in_s"),
        ({"password": "x" * 7}, "password"),
        ({"password": "x" * 129}, "password"),
        ({"password": ""}, "password"),
        ({"password": 12345678}, "password"),
        ({"show_prompt": "yes"}, "show_prompt"),
        ({"views": 5}, "views"),
        ({"expires_in_s": 1}, None),
        ({"expires_in_s": 315_360_000}, None),
        ({"password": "x" * 8}, None),
        ({"password": "ü" * 128}, None),
        ({"password": None, "expires_in_s": None, "show_prompt": None}, None),
    ],
)
@pytest.mark.usefixtures("cheap_passwords")
async def test_each_field_has_its_bounds(
    proxy: RunningProxy, said: dict[str, Any], param: str | None
) -> None:
    """A value beyond is refused with its name, and makes nothing."""
    (image_id,) = await make(proxy)
    status, _, body = await proxy.request("POST", f"/v1/images/{image_id}/shares", json=said)
    assert status == (200 if param is None else 400)
    assert param is None or error_of(body)["param"] == param
    assert len((await proxy.get(f"/v1/images/{image_id}/shares"))["data"]) == (param is None)


async def test_an_image_has_so_many_links_at_most(proxy: RunningProxy) -> None:
    """One more is refused while all are live; one that has ended makes room, the oldest first."""
    (image_id,) = await make(proxy)
    made = [await share(proxy, image_id) for _ in range(MOST)]
    path = f"/v1/images/{image_id}/shares"
    assert (await proxy.request("POST", path, json={}))[0] == 400
    for ended in (made[3], made[7]):
        await proxy.request("DELETE", f"{path}/{ended['id']}")
    last = await share(proxy, image_id)
    ids = [each["id"] for each in (await proxy.get(path))["data"]]
    assert ids == [each["id"] for each in reversed([*made[:3], *made[4:], last])]


async def test_the_shares_of_a_user_go_with_the_user(proxy: RunningProxy) -> None:
    """One call forgets them all; those of others stay."""
    (own,), (foreign,) = await make(proxy), await make(proxy, key=OTHER_KEY)
    gone, stays = await share(proxy, own), await share(proxy, foreign, OTHER_KEY)
    user = context_of(proxy).directory.find(MEMBER_KEY)

    def work(tx: Tx) -> int:
        return stored.remove_of_owner(tx, user.id)

    assert await context_of(proxy).index.write(work) == 1
    await assert_dead(proxy, gone)
    assert (await visit(proxy, stays))[0] == 200


@pytest.mark.usefixtures("cheap_passwords")
async def test_a_page_shares_without_a_script(proxy: RunningProxy) -> None:
    """The form makes a link, which is shown once; the list has those that are live, each with what ends it."""
    (image_id,) = await make(proxy)
    browser = await sign_in(proxy)
    status, headers, page = await browser.post(
        f"/images/{image_id}/shares", lifetime="day", password=PASSWORD, show_prompt="on"
    )
    (link,) = set(re.findall(rf'href="({re.escape(proxy.url)}/s/[^"]+)"', page))
    assert (status, headers["Cache-Control"]) == (200, "private, no-store")
    (made,) = (await proxy.get(f"/v1/images/{image_id}/shares"))["data"]
    assert (made["has_password"], made["show_prompt"]) == (True, True)
    assert made["expires_at"] - made["created"] in {86_400, 86_401}
    assert (await unlock(proxy, {"url": link}, PASSWORD))[0] == 303
    _, _, page = await browser.get(f"/images/{image_id}")
    assert link not in page
    assert f'action="/images/{image_id}/shares/{made["id"]}/revoke"' in page
    assert (await browser.post(f"/images/{image_id}/shares/{made['id']}/revoke"))[0] == 303
    assert "/revoke" not in (await browser.get(f"/images/{image_id}"))[2]
    for fields in ({"lifetime": "Ever"}, {}, {"lifetime": "A day", "password": "short"}):
        assert (await browser.post(f"/images/{image_id}/shares", **fields))[0] == 400
    other = await sign_in(proxy, OTHER_KEY)
    assert (await other.post(f"/images/{image_id}/shares", lifetime="day"))[0] == 403
    assert 'id="shares"' not in (await other.get(f"/images/{image_id}"))[2]
