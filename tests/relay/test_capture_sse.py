"""A stream of events: what goes out when, what mends and what breaks it."""

from __future__ import annotations

import functools

import pytest

from pixie_proxy.relay.capture import (
    AnswerBroken,
    AnswerTooLarge,
    AnswerTruncated,
    EventEnded,
    Relay,
    SseCapture,
    Withhold,
)
from tests.relay.capturing import JPEG, PNG, Make, Outcome, b64, event, gather, is_refused, link, run

LINKED = functools.partial(SseCapture, link=link)
STREAM = b": hello\n\n" + event("partial_image", JPEG) + event("completed", PNG)
CRLF = (
    b"\xef\xbb\xbfretry: 5\r\n"
    + event("partial_image", JPEG, "\r\n")
    + b":\r\n\r\n"
    + event("completed", PNG, "\r\n")
)
CR = event("completed", PNG, "\r") + event("completed", JPEG, "\r", url=None) + b"data: [DONE]\r\r"
LINES = (
    b'id: 4\ndata:{"b64_json"\rdata\r\ndata: :\n: x\ndata:"%s"\ndata:,"a":["\\"",\ndata:"b64_json"]\ndata:,'
    b'"type":"image_edit.completed" }\nfoo\n\n'
) % b64(PNG).encode()
STREAMS = [STREAM, CRLF, CR, LINES]


@pytest.mark.parametrize("make", [SseCapture, LINKED])
@pytest.mark.parametrize("stream", STREAMS)
def test_where_the_network_cuts_does_not_matter(make: Make, stream: bytes) -> None:
    """Two chunks at every border, and single bytes, give what one chunk gives."""
    whole = run(make, [stream])
    assert make is LINKED or whole.sent == stream
    bytewise = [stream[i : i + 1] for i in range(len(stream))]
    for chunks in ([stream[:cut], stream[cut:]] for cut in range(len(stream))):
        found = run(make, chunks)
        found.free = whole.free
        assert found == whole
    assert run(make, bytewise).sent == whole.sent


@pytest.mark.parametrize("make", [SseCapture, LINKED])
@pytest.mark.parametrize("stream", [STREAM, CRLF, event("completed", PNG) + event("completed", JPEG), LINES])
def test_a_stream_cut_anywhere_is_never_complete_or_mended(make: Make, stream: bytes) -> None:
    """R32, R35: complete only between events; a last event that lacks nothing but line ends gets them."""
    for cut in range(len(stream)):
        capture, outcome = make(), Outcome()
        gather(capture.feed(stream[:cut]), outcome)
        try:
            gather(capture.finish(), outcome)
        except AnswerTruncated:
            assert not capture.is_complete
            continue
        if not stream[:cut].endswith((b"\n\n", b"\r\n\r\n", b"\r\n\r")):
            assert stream[:cut].strip().endswith((b"}", b"foo", b"fo", b"f"))
        assert outcome.sent.endswith((b"\n\n", b"\r\n\r\n", b"\r\n\r"))
        assert outcome.completed_events == stream[:cut].count(b'.completed"')


def test_a_completed_event_without_its_blank_line_is_mended() -> None:
    """M9: the missing line ends are as the stream's own, and withheld like the rest of the tail."""
    stream = event("partial_image", JPEG, "\r\n") + event("completed", PNG, "\r\n")
    capture, outcome = SseCapture(), Outcome()
    gather(capture.feed(stream[:-4]), outcome)
    assert (outcome.events[-1][0], capture.is_complete) == ("partial", False)
    pieces = capture.finish()
    assert isinstance(pieces[0], Withhold)
    gather(pieces, outcome)
    assert (outcome.sent, outcome.events[-1][:2]) == (stream, ("completed", 1))
    assert capture.is_complete


def test_a_completed_event_waits_from_its_closing_quote_on() -> None:
    """The client can't read the event before the call is durable."""
    stream = event("completed", PNG)
    *_, relay, withheld, ended = SseCapture().feed(stream)
    border = stream.index(b64(PNG).encode()) + len(b64(PNG))
    assert relay == Relay(stream[:border])
    assert withheld == Withhold(stream[border:])
    assert ended == EventEnded(
        "completed", 0, {"type": "image_generation.completed", "created_at": 1, "usage": {"b64_json": "x"}}
    )


def test_a_partial_event_waits_for_nothing() -> None:
    """Even if its type comes last."""
    for body in (
        event("partial_image", JPEG),
        b'data:{"b64_json":"/9j/","type":"image_edit.partial_image"}\n\n',
    ):
        outcome = Outcome()
        gather(SseCapture().feed(body), outcome)
        assert outcome.free == body
        assert outcome.events[0][:2] == ("partial", 0)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'event: error\ndata: {"type":"error","error":{"code":"moderation_blocked"}}\n\n', "error"),
        (b'data: {"error":"text"}\n\n', "error"),
        (b'event: error\ndata: {"type":"error","code":1}\n\n', "error"),
        (b"data: [DONE]\n\n", "other"),
        (b'data: {"b64_json":"cut\ndata: \n\n', "other"),
        (b'data: ["b64_json","AAAA"]\n\n', "other"),
        (b'data: {"type":"image_edit.completed","b64_json":""}\n\n', "completed"),
        (b'event: image_edit.completed\ndata: {"b64_json":null}\n\n', "completed"),
    ],
)
def test_events_without_an_image_pass_whole(body: bytes, kind: str) -> None:
    """At their blank line, whatever they are."""
    capture, outcome = SseCapture(), Outcome()
    if b'"b64_json":"cut' in body:
        with pytest.raises(AnswerBroken):  # an image had begun
            capture.feed(body)
        return
    gather(capture.feed(body[:-1]), outcome)
    assert outcome.sent == b""
    gather(capture.feed(body[-1:]), outcome)
    assert outcome.free == body
    assert [(found[0], found[1]) for found in outcome.events] == [(kind, None)]
    assert capture.is_complete == (kind == "error")


@pytest.mark.parametrize(
    "junk",
    [
        b"event: x\n\n",
        b"data:\n\n",
        b"id: 1\n: c\n\n",
        b"data: {broken\n\n",
        b"data: <html>\n\n",
        b'data: {"a":"cut\ndata: "x","b64_json":"QUJD"}\n\n',
    ],
)
def test_events_that_kill_sdks_are_left_out(junk: bytes) -> None:
    """What is no JSON says nothing to anybody, and an SDK that tries to read it never sees the image behind it."""
    final = event("completed", PNG)
    for chunks in (
        [junk + final + junk],
        [(junk + final + junk)[i : i + 1] for i in range(len(junk + final) + len(junk))],
    ):
        outcome = run(SseCapture, chunks)
        assert outcome.sent == final


@pytest.mark.parametrize(
    ("sent", "expected", "is_whole"),
    [
        (event("completed", PNG), 1, True),
        (event("completed", PNG), 2, False),
        (event("completed", PNG) * 2, 2, True),
        (event("completed", PNG) * 3, 2, True),
        (event("completed", PNG) + b"data: [DONE]\n\n", 2, True),
        (b"data: [DONE]\n\n", 1, False),
        (event("completed", None, url="http://x/1.png"), 1, True),
        (event("completed", None), 1, False),
        (event("completed", PNG) + b'data: {"error":{"message":"no"}}\n\n', 2, True),
        (event("partial_image", PNG), 1, False),
    ],
)  # fmt: skip
def test_a_cut_is_healed_only_behind_all_that_was_asked_for(
    sent: bytes, expected: int, is_whole: bool
) -> None:
    """R35: without the framing's end, two images of four look like two of two."""
    capture = SseCapture(expected=expected)
    capture.feed(sent)
    assert capture.is_complete == is_whole
    if is_whole:
        capture.finish(was_cut=True)
    else:
        with pytest.raises(AnswerTruncated):
            capture.finish(was_cut=True)


def test_comments_pass_at_once_and_may_be_put_in_between_events_only() -> None:
    """`between_events` is false from an event's first byte that went out to its blank line."""
    capture = SseCapture()
    assert capture.feed(b": keep-alive\n") == [Relay(b": keep-alive\n")]
    head, tail = event("completed", PNG).split(b"iVBO")
    capture.feed(head)
    assert capture.between_events
    capture.feed(b"iVBO" + tail[:-1])
    assert not capture.between_events
    capture.feed(b"\n")
    assert capture.between_events


@pytest.mark.parametrize(
    "stream",
    [b"", b": x\n\n", event("partial_image", PNG), b"data: [DONE]\n\n",
     b'data:\xef\xbb\xbf{"type":"x.completed","b64_json":"QUJD"}\n\n', b"event: x.completed\n\n",
     event("completed", PNG) + b"event: image_gen", event("completed", PNG) + b"data: [DO",
     event("completed", PNG).replace(b"iVBO", b"iV\ndata: BO"), event("completed", PNG).replace(b"}}", b"}]"),
     event("completed", PNG).replace(b"}}", b"}"), event("completed", PNG)[:-3]],
)  # fmt: skip
def test_streams_without_a_proper_end_are_refused(stream: bytes) -> None:
    """No outcome, a cut event, or an image in what is no JSON."""
    assert is_refused(SseCapture, [stream])
    assert is_refused(SseCapture, [stream[i : i + 1] for i in range(len(stream))])


def test_whole_streams_with_odd_ends_are_taken() -> None:
    """A comment or a `[DONE]` behind the last event may lack its line end."""
    for end in (b":", b": bye", b"data: [DONE]", b"data: [DONE]\n", b"\n", b"\r"):
        assert is_refused(SseCapture, [event("completed", PNG) + end]) is None


def test_caps_hold() -> None:
    """A line that does not end, and events without end."""
    make = functools.partial(SseCapture, max_text_bytes=4000)
    assert isinstance(is_refused(make, [b"data: " + b"x" * 5000]), AnswerTooLarge)
    assert isinstance(is_refused(make, [b": x\n"] * 1001), AnswerTooLarge)
    assert isinstance(is_refused(make, [event("completed", b"x") * 40]), AnswerTooLarge)
    assert isinstance(is_refused(SseCapture, [event("completed", b"x") * 257]), AnswerTooLarge)
    assert is_refused(SseCapture, [event("completed", b"x") * 256]) is None
    assert is_refused(make, [event("completed", PNG * 99)]) is None
