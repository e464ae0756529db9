"""A JSON answer: what goes out when, and what makes it broken."""

from __future__ import annotations

import functools
import json
import tracemalloc

import pytest

from pixie_proxy.relay.capture import (
    AnswerBroken,
    AnswerTooLarge,
    AnswerTruncated,
    ImageBytes,
    ImageEnded,
    JsonCapture,
    Relay,
    Withhold,
)
from tests.relay.capturing import JPEG, PNG, Make, Outcome, b64, gather, is_refused, json_answer, link, run

ONE = json_answer(PNG)
FOUR = json_answer(PNG, JPEG, PNG[:9], JPEG[:4])
WITH_URLS = (
    b'{"data" : [ {"url" : null , "b64_json": "%s", "n":{"url":1} ,"url":"u"}, {"url":"kept"} ] }\n'
    % b64(JPEG).encode()
)
MODES = [
    JsonCapture,
    functools.partial(JsonCapture, link=link),
    functools.partial(JsonCapture, mute=True),
]


@pytest.mark.parametrize("make", MODES)
@pytest.mark.parametrize("answer", [ONE, FOUR, WITH_URLS])
def test_where_the_network_cuts_does_not_matter(make: Make, answer: bytes) -> None:
    """Two chunks at every border, and single bytes, give what one chunk gives."""
    whole = run(make, [answer])
    for cut in range(len(answer)):
        halves = run(make, [answer[:cut], answer[cut:]])
        assert halves == whole
    assert run(make, [answer[i : i + 1] for i in range(len(answer))]) == whole


@pytest.mark.parametrize("make", MODES)
@pytest.mark.parametrize("answer", [ONE, FOUR, WITH_URLS])
def test_an_answer_cut_anywhere_is_never_complete(make: Make, answer: bytes) -> None:
    """R32, R33: without its last bracket it is truncated, and the last bracket is never free to go."""
    for cut in range(len(answer.rstrip())):
        capture, outcome = make(), Outcome()
        gather(capture.feed(answer[:cut]), outcome)
        with pytest.raises(AnswerTruncated):
            capture.finish()
        assert not capture.is_complete
        with pytest.raises(ValueError):
            json.loads(outcome.sent)


def test_whole_images_of_a_cut_answer_are_named() -> None:
    """R34: after a cut in image 2, images 0 and 1 are salvaged."""
    capture = JsonCapture()
    capture.feed(FOUR[: FOUR.index(b64(PNG[:9]).encode() + b'"') + 3])
    with pytest.raises(AnswerTruncated) as caught:
        capture.finish()
    assert caught.value.whole == (0, 1)


def test_bytes_pass_unchanged_but_the_last_bracket_waits() -> None:
    """All but the `}` and what follows may go at once."""
    answer = b"\n" + ONE + b"\r\n"
    pieces = JsonCapture().feed(answer)
    assert [piece.data for piece in pieces if isinstance(piece, Relay)] == [answer[:-3]]
    assert pieces[-1] == Withhold(b"}\r\n")


def test_nothing_goes_out_before_the_first_image() -> None:
    """A wrong 200 can still become a proper error; an empty string and null are no images."""
    head = b'{"error":{"b64_json":"AAAA"},"data":[{"b64_json":null},{"b64_json":""},{"b64_json":"'
    capture = JsonCapture()
    assert capture.feed(head) == []
    assert capture.feed(b"A")[0] == Relay(head + b"A")


def test_an_answer_without_images_gives_fields_and_no_bytes() -> None:
    """The pump makes such an answer itself."""
    outcome = run(JsonCapture, [b'{"created":1,"data":[{"url":"https://x/y","b64_json":null}, 3]} \n'])
    assert outcome.sent == b""
    assert outcome.fields == {"created": 1, "data": [{"url": "https://x/y"}, 3]}
    assert outcome.slot_of_item == [None, None]


def test_fields_are_the_answer_without_its_base64() -> None:
    """Also escaped keys are keys, and an image's slot is found by its item."""
    items = b'7,{"b64_json":"QUJD","b":1},[{"b64_json":"QUJD"}],{"b64\\u005fjson" : "QUJE"}'
    answer = b'{"d\\u0061ta":[' + items + b'],"c":"\\ud83d"}'
    outcome = run(JsonCapture, [answer])
    assert outcome.slot_of_item == [None, 0, None, 1]
    assert outcome.fields == {"data": [7, {"b": 1}, [{"b64_json": "QUJD"}], {}], "c": "?"}
    assert [image[1] for image in outcome.images.values()] == [b"ABC", b"ABD"]


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("QUI=", b"AB"),
        ("QUI", b"AB"),
        ("data:image/png;base64,QUJD", b"ABC"),
        ("data:image\\/png;base64,QUJD", b"ABC"),
        ("data", b"u\xabZ"),
        ("\\/\\/\\/\\/", b"\xff\xff\xff"),
        ("\\u002b\\u002F++", b"\xfb\xff\xbe"),
        ("QUJD\\r\\nQUJE\\n", b"ABCABD"),
        ("QUJD!", None),
        ("Q", None),
        ('QUJ\\"D', None),
        ("QU\\\\/D", None),
        ("QQ==QUJD", None),
        ("data:,", None),
    ],
)
def test_base64_as_upstreams_write_it(text: str, data: bytes | None) -> None:
    """What clients can read is kept; what they can't is a bad image in an answer that goes on."""
    answer = f'{{"data":[{{"b64_json":"{text}"}},{{"b64_json":"QUJD"}}]}}'.encode()
    for cut in range(len(answer)):
        outcome = run(JsonCapture, [answer[:cut], answer[cut:]])
        assert outcome.sent == answer
        assert outcome.images[1][1:] == (b"ABC", True)
        assert outcome.images[0][2] == (data is not None)
        assert data is None or outcome.images[0][1] == data


@pytest.mark.parametrize(
    "answer",
    [b"[]", b"<html>", b'{"data":[{"b64_json":"QUJD"}]', ONE[:-1] + b",}", ONE + b"x", ONE + b"{}", b"", b" ",
     b'{"data":[{"b64_json":"QUJD"},]}', b'{"data":[{"b64_json":"QUJD"]}}', b'{"a":\xff}', b'{"a":"\n"}',
     b"[" * 9, b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"a":NaN}'],
)  # fmt: skip
def test_what_is_no_document_is_refused(answer: bytes) -> None:
    """However it is cut."""
    assert is_refused(JsonCapture, [answer])
    assert is_refused(JsonCapture, [answer[i : i + 1] for i in range(len(answer))])


def test_what_was_found_before_the_fault_is_not_lost() -> None:
    """One chunk with an image and then nonsense: the error carries the image."""
    capture = JsonCapture()
    with pytest.raises(AnswerBroken) as caught:
        capture.feed(ONE + b"x")
    assert ImageEnded(0, ok=True) in caught.value.pieces
    assert not capture.is_complete
    with pytest.raises(AnswerBroken):
        capture.feed(b" ")


def test_caps_hold() -> None:
    """The text beside the images and the whole answer are bounded, however they come."""
    text = b'{"a":"' + b"x" * 5000 + b'","data":[{"b64_json":"QUJD"}]}'
    for chunks in ([text], [text[i : i + 1] for i in range(len(text))]):
        refused = is_refused(functools.partial(JsonCapture, max_text_bytes=4000), chunks)
        assert isinstance(refused, AnswerTooLarge)
    assert isinstance(is_refused(functools.partial(JsonCapture, max_bytes=4000), [text]), AnswerTooLarge)
    assert is_refused(functools.partial(JsonCapture, max_text_bytes=4000), [ONE]) is None


def test_an_image_of_any_size_needs_little_memory() -> None:
    """64 MB pass with less than 1 MiB of buffers."""
    chunk = b"QUJD" * 16384
    capture = JsonCapture(link=link)
    capture.feed(b'{"data":[{"b64_json":"')
    tracemalloc.start()
    found = 0
    for _ in range(1000):
        found += sum(len(piece.data) for piece in capture.feed(chunk) if isinstance(piece, ImageBytes))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    assert found == 1000 * 49152


def test_long_text_in_single_bytes_takes_linear_time() -> None:
    """A string, white space and escapes of 300 kB, byte by byte, are not read over and over."""
    text = b'{"a":"' + b"x" * 100_000 + b'\\"' * 50_000 + b'",' + b" " * 100_000 + b'"data":[]}'
    assert run(JsonCapture, [text[i : i + 1] for i in range(len(text))]).fields
