"""What a browser does: keep a cookie, say where a request comes from, send the token of the forms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pixie_proxy.accounts.sessions import csrf_token
from tests.support.proxy import MEMBER_KEY, RunningProxy
from tests.web.calling import ended

HTML = {"Accept": "text/html,application/xhtml+xml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """Somebody who is signed in. `cookie` is `name=value`."""

    proxy: RunningProxy
    cookie: str

    @property
    def token(self) -> str:
        return self.cookie.partition("=")[2]

    @property
    def csrf(self) -> str:
        return csrf_token(self.token)

    async def get(self, path: str, **headers: str) -> tuple[int, Mapping[str, str], str]:
        """Open an address; redirects are not followed."""
        return await self.send("GET", path, headers=headers)

    async def post(self, path: str, **fields: str) -> tuple[int, Mapping[str, str], str]:
        """Send a form of ours, as a browser does."""
        return await self.send(
            "POST", path, headers={"Origin": self.proxy.url}, data={"csrf": self.csrf, **fields}
        )

    async def send(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> tuple[int, Mapping[str, str], str]:
        """Send anything with the cookie."""
        status, answered, body = await self.proxy.request(
            method,
            path,
            key=None,
            headers={**HTML, "Cookie": self.cookie, **(headers or {})},
            allow_redirects=False,
            **options,
        )
        return status, answered, body.decode("utf-8", "replace")


async def sign_in(proxy: RunningProxy, key: str = MEMBER_KEY, **headers: str) -> Browser:
    """Sign in with a key at the sign-in page."""
    status, answered, _ = await login(proxy, key, **headers)
    assert status == 303
    return Browser(proxy=proxy, cookie=cookie_of(answered))


async def login(
    proxy: RunningProxy, key: str, wanted: str | None = None, **headers: str
) -> tuple[int, Mapping[str, str], str]:
    """Send the sign-in form."""
    fields = {"key": key} if wanted is None else {"key": key, "next": wanted}
    status, answered, body = await proxy.request(
        "POST",
        "/login",
        key=None,
        data=fields,
        headers={**HTML, "Origin": proxy.url, **headers},
        allow_redirects=False,
    )
    return status, answered, body.decode()


def cookie_of(headers: Mapping[str, str]) -> str:
    return headers["Set-Cookie"].partition(";")[0]


async def make(proxy: RunningProxy, prompt: str = "a cat", key: str = MEMBER_KEY, **fields: Any) -> list[str]:
    """Make images, as many as the upstream answers with, and give their ids, newest first."""
    answer = await proxy.sdk(key).images.generate(**{"model": "gpt-image-2", "prompt": prompt, **fields})
    await ended(proxy)
    page = await proxy.get(f"/v1/images?limit={len(answer.data or [])}", key)
    return [image["id"] for image in page["data"]]


def shown(html: str) -> list[str]:
    """Give the ids of the images of a list, as they stand there."""
    return re.findall(r'<a href="/images/(img_[0-9a-v]{26})">', html)


def links(html: str) -> dict[str, str]:
    """Give the links to the next and the previous page."""
    found = re.findall(r'rel="(prev|next)" href="([^"]+)"', html)
    return {name: address.replace("&amp;", "&") for name, address in found}
