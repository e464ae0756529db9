"""The skeleton of an answer renders the client's bytes again."""

from __future__ import annotations

import functools

import pytest

from pixie_proxy.relay.capture import Capture, JsonCapture, Relay, Skeleton, SseCapture, Withhold
from tests.relay.capturing import JPEG, PNG, event, json_answer, link, rendered


def sent_by(capture: Capture, answer: bytes) -> bytes:
    pieces = [*capture.feed(answer), *capture.finish()]
    return b"".join(piece.data for piece in pieces if isinstance(piece, (Relay, Withhold)))


@pytest.mark.parametrize("with_links", [False, True])
@pytest.mark.parametrize("escape", [False, True])
def test_a_stored_skeleton_renders_the_same_bytes(with_links: bool, escape: bool) -> None:
    """Links and escaped slashes included, in steps of 192 KiB at most, from image pieces of any size."""
    images = [PNG * 700, JPEG, b"??>" * 200_000]
    answer = json_answer(*images)
    capture = JsonCapture(link=link if with_links else None)
    sent = sent_by(capture, answer.replace(b"/", b"\\/") if escape else answer)
    skeleton = Skeleton.from_bytes(capture.skeleton.to_bytes())
    assert skeleton.is_exact
    assert len(skeleton.to_bytes()) < 1000
    steps = list(rendered(skeleton, lambda slot: [images[slot][:100_001], b"", images[slot][100_001:]]))
    assert b"".join(steps) == sent
    assert max(map(len, steps)) <= 192 * 1024


def test_a_stream_renders_without_its_partial_images() -> None:
    """Later replays do without them; everything else stays."""
    start, end = b": x\n\n" + event("completed", JPEG), event("completed", PNG) + b"data: [DONE]\n\n"
    partial = event("partial_image", PNG[:99])
    capture = SseCapture()
    sent = sent_by(capture, start + partial + partial + end)
    skeleton = Skeleton.from_bytes(capture.skeleton.to_bytes())
    images = [JPEG, PNG[:99], PNG[:99], PNG]
    assert b"".join(rendered(skeleton, lambda slot: [images[slot]])) == sent
    assert b"".join(rendered(skeleton, lambda slot: [images[slot]], partials=False)) == start + end
    assert [(slot.number, slot.is_partial) for slot in skeleton.slots()] == [
        (0, False),
        (1, True),
        (2, True),
        (3, False),
    ]
    assert [slot.number for slot in skeleton.slots(partials=False)] == [0, 3]


@pytest.mark.parametrize("text", ["QUI", "QR==", "QUJD\\n", "\\u0051UJD", "Q!==", "\\//8="])
def test_odd_base64_is_not_exact(text: str) -> None:
    """Unpadded, with stray bits, in lines, escaped here and there, or none at all."""
    capture = JsonCapture()
    sent_by(capture, f'{{"data":[{{"b64_json":"{text}"}}]}}'.encode())
    assert not capture.skeleton.is_exact
    capture = JsonCapture()
    capture.feed(b'{"data":[{"b64_json":"//8/')
    sent_by(capture, b'\\/\\/8="}]}')
    assert not capture.skeleton.is_exact
    assert not Skeleton.from_bytes(capture.skeleton.to_bytes()).is_exact


def test_an_answer_that_gave_no_bytes_has_an_empty_skeleton() -> None:
    """The pump makes the answer, and its skeleton from the text."""
    for make in (JsonCapture, functools.partial(JsonCapture, mute=True)):
        capture = make()
        assert sent_by(capture, b'{"data":[{"url":"x"}]}' if make is JsonCapture else json_answer(PNG)) == b""
        assert list(rendered(capture.skeleton, lambda _: [])) == []
    assert list(rendered(Skeleton.of_text(b"{}"), lambda _: [])) == [b"{}"]


@pytest.mark.parametrize(
    "data", [b"", b"\x02\x01", b"\x01\x01abc", b"\x01\x01\x09\0\0\0\xff\xff\xff\xff\0abc"]
)
def test_what_is_no_skeleton_is_refused(data: bytes) -> None:
    """A later version or a cut row is a ValueError, not a wrong answer."""
    with pytest.raises(ValueError, match="skeleton"):
        Skeleton.from_bytes(data)
