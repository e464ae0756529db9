"""Signing in with a key, and what the cookie is like."""

from __future__ import annotations

import pytest

from pixie_proxy.index import users
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, VIEWER_KEY, RunningProxy
from tests.web.browsing import Browser, login, sign_in
from tests.web.calling import context_of
from tests.web.conftest import ProxyWith

WRONG = "px-wrong-" + "x" * 30


async def test_a_key_opens_the_gallery(proxy: RunningProxy) -> None:
    """The form is there for everybody; a good key leads on, with a session."""
    status, _, body = await proxy.request("GET", "/login", key=None)
    assert status == 200
    assert b'name="key"' in body
    for key, name in ((ADMIN_KEY, "alice"), (MEMBER_KEY, "bob"), (VIEWER_KEY, "dan")):
        browser = await sign_in(proxy, f"  {key}\n")
        status, _, page = await browser.get("/")
        assert status == 200
        assert f"<strong>{name}</strong>" in page
        assert key not in page


@pytest.mark.parametrize("key", ["", WRONG, MEMBER_KEY[:-1], "ключ", "\x00", "x" * 5000])
async def test_a_wrong_key_is_told_on_the_same_page(proxy: RunningProxy, key: str) -> None:
    """With status 401, no session, and without repeating the key."""
    status, headers, page = await login(proxy, key, "/images/x")
    assert status == 401
    assert "Set-Cookie" not in headers
    assert "That key is not known here" in page
    assert 'name="next" value="/images/x"' in page
    assert len(key) < 9 or key not in page


@pytest.mark.parametrize(
    ("public_url", "name", "is_secure"),
    [
        (None, "pixie", False),
        ("http://images.example.org", "pixie", False),
        ("https://images.example.org", "__Host-pixie", True),
    ],
)
async def test_the_cookies_attributes(
    proxy_with: ProxyWith, public_url: str | None, name: str, is_secure: bool
) -> None:
    """HttpOnly, SameSite=Lax, the whole site, no domain; Secure and __Host- where there is TLS."""
    proxy = await proxy_with(server={"public_url": public_url})
    origin = public_url or proxy.url
    _, headers, _ = await login(proxy, MEMBER_KEY, Origin=origin)
    cookie, *attributes = headers["Set-Cookie"].split("; ")
    expected = {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=2592000"} | (
        {"Secure"} if is_secure else set()
    )
    assert cookie.startswith(f"{name}=")
    assert set(attributes) == expected
    browser = Browser(proxy=proxy, cookie=cookie)
    assert (await browser.get("/"))[0] == 200
    _, headers, _ = await browser.send(
        "POST", "/logout", data={"csrf": browser.csrf}, headers={"Origin": origin}
    )
    cookie, *attributes = headers["Set-Cookie"].split("; ")
    assert cookie.removeprefix(f"{name}=") in {"", '""'}
    assert set(attributes) == expected - {"Max-Age=2592000"} | {"Max-Age=0"}


async def test_each_name_has_its_own_cookie(proxy_with: ProxyWith) -> None:
    """Where there is TLS, a cookie without the prefix (which a sub-domain can plant) is nothing."""
    proxy = await proxy_with(server={"public_url": "https://images.example.org"})
    browser = await sign_in(proxy, Origin="https://images.example.org")
    planted = Browser(proxy=proxy, cookie=f"pixie={browser.token}")
    assert (await planted.get("/"))[0] == 303


async def test_each_sign_in_has_a_new_id(proxy: RunningProxy) -> None:
    """A cookie that was planted before is not the session afterwards, and the session before is over."""
    planted = "pixie=" + "p" * 43
    first = await sign_in(proxy, Cookie=planted)
    second = await sign_in(proxy, Cookie=first.cookie)
    assert len({planted, first.cookie, second.cookie}) == 3
    assert (await Browser(proxy=proxy, cookie=planted).get("/"))[0] == 303
    assert (await first.get("/"))[0] == 303
    assert (await second.get("/"))[0] == 200


async def test_signing_out_ends_the_session_everywhere(proxy: RunningProxy) -> None:
    """A copy of the cookie opens nothing any more, and logging out twice is no fault."""
    browser = await sign_in(proxy)
    status, headers, _ = await browser.post("/logout")
    assert (status, headers["Location"]) == (303, "/login")
    assert (await browser.get("/"))[0] == 303
    assert (await browser.get("/v1/me"))[0] == 401
    assert (await browser.post("/logout"))[0] == 303


async def test_a_session_ends_with_its_user(proxy: RunningProxy) -> None:
    """What `Directory.load` brings holds for sessions too."""
    browser = await sign_in(proxy)
    context = context_of(proxy)
    user = context.directory.find(MEMBER_KEY)
    await context.index.write(lambda tx: users.set_disabled(tx, user.id, disabled=True))
    await context.directory.load()
    assert (await browser.get("/"))[0] == 303
    assert (await browser.get("/v1/images"))[0] == 401


@pytest.mark.parametrize(
    ("wanted", "led_to"),
    [
        (None, "/"),
        ("/", "/"),
        ("/images/img_0?x=1&y=%2f", "/images/img_0?x=1&y=%2f"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("/\t/evil.example", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
        ("/a\\b", "/"),
        ("", "/"),
        ("/" + "x" * 5000, "/"),
    ],
)
async def test_the_way_on_is_a_way_of_ours(proxy: RunningProxy, wanted: str | None, led_to: str) -> None:
    """A sign-in page that leads anywhere would serve phishing."""
    status, headers, _ = await login(proxy, MEMBER_KEY, wanted)
    assert (status, headers["Location"]) == (303, led_to)


async def test_who_is_signed_in_goes_on(proxy: RunningProxy) -> None:
    """The sign-in page is not shown twice; a page that was asked for first comes back."""
    status, headers, _ = await proxy.request("GET", "/images/img_0?a=b&c", key=None, allow_redirects=False)
    assert (status, headers["Location"]) == (303, "/login?next=%2Fimages%2Fimg_0%3Fa%3Db%26c")
    status, headers, _ = await (await sign_in(proxy)).get(headers["Location"])
    assert (status, headers["Location"]) == (303, "/images/img_0?a=b&c")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_another_site_can_not_sign_anybody_in(proxy: RunningProxy, headers: dict[str, str]) -> None:
    """Else it could put a victim into an account of its own."""
    status, answered, page = await login(proxy, MEMBER_KEY, **headers)
    assert status == 403
    assert "Set-Cookie" not in answered
    assert "another address" in page


async def test_wrong_keys_run_out(proxy: RunningProxy) -> None:
    """Ten a minute from one address; right keys take nothing, and wait like the others once it is over."""
    for _ in range(3):
        assert (await login(proxy, MEMBER_KEY))[0] == 303
    statuses = [(await login(proxy, WRONG))[0] for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    status, headers, page = await login(proxy, MEMBER_KEY)
    assert status == 429
    assert 1 <= int(headers["Retry-After"]) <= 60
    assert "Too many wrong keys" in page
    assert "Set-Cookie" not in headers


async def test_a_body_that_is_no_form_is_refused(proxy: RunningProxy) -> None:
    """By type, by size, by number of fields."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    cases: list[tuple[str | bytes, dict[str, str], int]] = [
        ('{"key": "x"}', {"Content-Type": "application/json"}, 415),
        (b"key=" + b"x" * 20_000, form, 413),
        ("&".join(f"f{n}=x" for n in range(30)), form, 400),
    ]
    for data, headers, expected in cases:
        status, answered, _ = await proxy.request(
            "POST", "/login", key=None, headers={"Origin": proxy.url, **headers}, data=data
        )
        assert status == expected
        assert "Set-Cookie" not in answered


async def test_the_set_cookie_is_only_set_once(proxy: RunningProxy) -> None:
    """Looking at pages gives no new cookie."""
    browser = await sign_in(proxy)
    _, headers, _ = await browser.get("/")
    assert "Set-Cookie" not in headers
