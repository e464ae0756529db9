"""The operator's key in what the upstream says: it never gets to a client, however it was written or cut."""

from __future__ import annotations

import functools
import json

import pytest

from pixie_proxy.relay.capture import JsonCapture, SseCapture
from pixie_proxy.relay.scrubbing import scrubber
from tests.relay.capturing import PNG, Make, b64, event, run

SECRET = 'sk-op/erator"0é1'
HIDE = scrubber(SECRET)
SPELLINGS = {
    "plain": SECRET.encode(),
    "JSON": json.dumps(SECRET, ensure_ascii=False).encode()[1:-1],
    "JSON in ASCII": json.dumps(SECRET).encode()[1:-1],
    "with slashes": json.dumps(SECRET).replace("/", "\\/").encode()[1:-1],
    "all escaped": "".join(f"\\u{ord(letter):04x}" for letter in SECRET).encode(),
    "in upper case": "".join(f"\\u{ord(letter):04X}" for letter in SECRET).encode(),
}


@pytest.mark.parametrize("written", SPELLINGS.values(), ids=list(SPELLINGS))
def test_every_spelling_is_found(written: bytes) -> None:
    """What a reader of JSON would see as the key is hidden, twice if it is there twice."""
    assert HIDE(b"<" + written + b"|" + written + b">") == b"<[hidden]|[hidden]>"
    assert HIDE(written[1:]) == written[1:]


def test_without_a_key_nothing_is_looked_for() -> None:
    """And nothing is copied."""
    text = b"sk-operator"
    assert scrubber("")(text) is text


WRITTEN = SPELLINGS["JSON"]
DOCUMENT = b'{"note":"%s","data":[{"b64_json":"%s","revised_prompt":"%s"}],"x":{"y":["%s"]}}' % (
    WRITTEN, b64(PNG).encode(), SPELLINGS["all escaped"], WRITTEN,
)  # fmt: skip
STREAM = (
    b": " + SPELLINGS["plain"] + b"\n\n"
    + event("partial_image", PNG, note=SECRET)
    + event("completed", PNG, note=SECRET)
    + b'event: error\ndata: {"type":"error","error":{"message":"bad key %s"}}\n\n' % WRITTEN
)  # fmt: skip


@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (functools.partial(JsonCapture, scrub=HIDE), DOCUMENT),
        (functools.partial(SseCapture, scrub=HIDE), STREAM),
    ],
    ids=["JSON", "SSE"],
)
def test_no_cut_between_two_chunks_lets_it_slip_through(make: Make, answer: bytes) -> None:
    """Text goes out by whole strings and lines, so the key is never in two halves; the image is as it was."""
    whole = run(make, [answer])
    assert b"[hidden]" in whole.sent
    for chunks in [
        [answer[i : i + 1] for i in range(len(answer))],
        *([answer[:i], answer[i:]] for i in range(len(answer))),
    ]:
        found = run(make, chunks)
        assert found.sent == whole.sent
        assert HIDE(found.sent) == found.sent
        assert SECRET not in repr(found.events) + repr(found.fields)
        assert {image[1] for image in found.images.values()} == {PNG}
