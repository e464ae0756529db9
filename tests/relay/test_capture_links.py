"""Links: each final image gets a `url` behind its base64, and nothing else changes."""

from __future__ import annotations

import functools
import json

import orjson
import pytest

from pixie_proxy.relay.capture import JsonCapture, SseCapture
from tests.relay.capturing import JPEG, PNG, b64, event, link, run

B = b'"b64_json":"' + b64(JPEG).encode() + b'"'
URL = b',"url":' + orjson.dumps(link(0, "image/jpeg"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"{%b}", b"{%b%b}"),
        (b'{%b , "r":1}', b'{%b%b , "r":1}'),
        (b'{"url":"x",%b}', b"{%b%b}"),
        (b'{ "url" : null , %b }', b"{  %b%b }"),
        (b'{%b,"url":{"url":[1,",}"]}}', b"{%b%b}"),
        (b'{%b, "url":-1.5 , "r":"url"}', b'{%b%b, "r":"url"}'),
        (b'{"r":"url","u\\u0072l":"url",%b,"url":"url"\n}', b'{"r":"url",%b%b}'),
        (b'{"a":{"url":1},%b,"b":[{"url":2}]}', b'{"a":{"url":1},%b%b,"b":[{"url":2}]}'),
        (b'{"url":1,"url":2,%b,"url":3,"url":4}', b"{%b%b}"),
    ],
)  # fmt: skip
def test_the_link_follows_the_base64_and_replaces_a_url(before: bytes, after: bytes) -> None:
    """Commas stay right wherever the old `url` was; the rest stays byte for byte."""
    for pattern in (b'{"url":0,"data":[%b],"url":"keep"}\n', b'{"data":[%b , {"url":"k"}]}'):
        upstream, client = pattern % before.replace(b"%b", B), pattern % (after % (B, URL))
        for cut in range(len(upstream)):
            assert (
                run(functools.partial(JsonCapture, link=link), [upstream[:cut], upstream[cut:]]).sent
                == client
            )
        json.loads(client)
    stream = b"data: %b\r\n\r\n"
    upstream = stream % before.replace(b"%b", B).replace(b"\n", b"").replace(
        b"{", b'{"type":"x.completed",', 1
    )
    client = stream % (after % (B, URL)).replace(b"\n", b"").replace(b"{", b'{"type":"x.completed",', 1)
    assert run(functools.partial(SseCapture, link=link), [upstream]).sent == client


def test_an_item_without_a_whole_image_keeps_its_url() -> None:
    """Neither null nor a bad image gets a link."""
    answer = b'{"data":[{"b64_json":null,"url":"a"},{"b64_json":"Q"},{"b64_json":"/9j/"}]}'
    outcome = run(functools.partial(JsonCapture, link=link), [answer])
    assert json.loads(outcome.sent)["data"] == [
        {"b64_json": None, "url": "a"},
        {"b64_json": "Q"},
        {"b64_json": "/9j/", "url": link(2, "image/jpeg")},
    ]


def test_only_completed_events_get_links() -> None:
    """Partial images have none, and the number is that among the completed ones."""
    stream = (
        event("partial_image", PNG, url="p") + event("completed", PNG, url="x") + event("completed", JPEG)
    )
    outcome = run(functools.partial(SseCapture, link=link), [stream])
    events = [json.loads(line[6:]) for line in outcome.sent.splitlines() if line.startswith(b"data: ")]
    early = b'data: {"type":"x.partial_image","url":1,%b}\n\n' % B
    assert run(functools.partial(SseCapture, link=link), [early + stream]).sent.startswith(early)
    assert [found.get("url") for found in events] == ["p", link(0, "image/png"), link(1, "image/jpeg")]
    assert outcome.sent.startswith(event("partial_image", PNG, url="p"))


def test_a_type_behind_the_base64_is_early_enough() -> None:
    """The tail of an event waits for its blank line anyway."""
    body = b'data: {"url":1,%b,"type":"image_edit.completed"}\n\n' % B
    outcome = run(functools.partial(SseCapture, link=link), [body])
    assert outcome.sent == b'data: {%b%b,"type":"image_edit.completed"}\n\n' % (B, URL)
