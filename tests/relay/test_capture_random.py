"""Captures against a reference that has the whole answer and `json.loads`: random documents, streams and cuts."""

from __future__ import annotations

import base64
import functools
import json
import random
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pixie_proxy.relay.capture import JsonCapture, SseCapture
from tests.relay.capturing import Outcome, b64, gather, link, run, splits

SEEDS = st.integers(0, 1 << 48)
ODD_STRINGS = [
    "",
    "b64_json",
    "url",
    "data",
    '"b64_json":"AAAA"',
    "\\",
    '\\"',
    "é\u2028\U0001f600",
    "}],{[",
    "x" * 300,
]
ODD_IMAGES = ["d", "data", "dataQUJD", "da!!", "data:", "data:,", "data:image/png;base64,QUJD", "data:x,Q", "QQ", "Q",
              "QUJD\nQUJE\n", '"', "\\", "QUJD\\", "//8=", "++++", "data:" + "x" * 300 + ",QUJD"]  # fmt: skip
Pairs = list[tuple[str, Any]]


class Writer:
    """Writes JSON as no library does: any white space, any escapes."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def space(self) -> str:
        return self.rng.choice(["", "", "", " ", "\n", "\t \r\n "])

    def string(self, text: str, *, is_image: bool = False) -> str:
        out = []
        slash = self.rng.choice(["/", "\\/"])
        for char in text:
            if char == "/":
                out.append(slash)
            elif char in '"\\' or char < " " or (not is_image and self.rng.random() < 0.03):
                out.append(json.dumps(char)[1:-1] if char in '"\\\n' else f"\\u{min(ord(char), 0xFFFF):04x}")
            else:
                out.append(char)
        return '"' + "".join(out) + '"'

    def value(self, value: Any, *, is_image: bool = False) -> str:
        if isinstance(value, tuple):
            members = [
                self.string(key)
                + self.space()
                + ":"
                + self.space()
                + self.value(inner, is_image=key == "b64_json")
                for key, inner in value
            ]
            return "{" + ",".join(self.space() + member + self.space() for member in members) + "}"
        if isinstance(value, list):
            return "[" + ",".join(self.space() + self.value(inner) + self.space() for inner in value) + "]"
        return self.string(value, is_image=is_image) if isinstance(value, str) else json.dumps(value)


def some_value(rng: random.Random, depth: int = 0) -> Any:
    pick = rng.randrange(9 if depth < 3 else 6)
    if pick < 3:
        return rng.choice([None, True, 0, -1.5e3, 7])
    if pick < 6:
        return rng.choice(ODD_STRINGS)
    if pick == 6:
        return [some_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return tuple((some_key(rng), some_value(rng, depth + 1)) for _ in range(rng.randrange(4)))


def some_key(rng: random.Random) -> str:
    return rng.choice(["b64_json", "url", "data", "type", "a", "revised_prompt", ""])


def some_image(rng: random.Random) -> Any:
    if rng.random() < 0.3:
        return rng.choice([*ODD_IMAGES, None, 3, "", ["QUJD"]])
    return b64(rng.randbytes(rng.choice([1, 2, 3, 40, 383, 384, 900])))


def some_item(rng: random.Random) -> Any:
    if rng.random() < 0.1:
        return some_value(rng)
    pairs = [(some_key(rng), some_value(rng)) for _ in range(rng.randrange(4))]
    pairs = [(key, some_image(rng) if key == "b64_json" else value) for key, value in pairs]
    pairs.insert(rng.randrange(len(pairs) + 1), ("b64_json", some_image(rng)))
    return tuple(pairs)


def some_document(rng: random.Random) -> tuple[Any, ...]:
    pairs = [(some_key(rng), some_value(rng)) for _ in range(rng.randrange(4))]
    for _ in range(1 if rng.random() < 0.9 else 2):
        items = [some_item(rng) for _ in range(rng.randrange(5))]
        pairs.insert(rng.randrange(len(pairs) + 1), ("data", items))
    return tuple(pairs)


def decoded(text: str) -> bytes | None:
    """What the base64 of an upstream means; None if it is none."""
    text = re.sub(r'\A(data:[^,"\\\n]{0,200},)', "", text).replace("\n", "")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True) or None
    except ValueError:
        return None


def images_of(item: Any) -> list[str]:
    pairs = item if isinstance(item, tuple) else ()
    return [value for key, value in pairs if key == "b64_json" and isinstance(value, str) and value]


def lifted(item: Any) -> Any:
    """The item as `fields` should have it; pairs become dicts, of equal keys the last one."""
    if isinstance(item, tuple):
        return {key: lifted(value) for key, value in item}
    return [lifted(value) for value in item] if isinstance(item, list) else item


def check_images(outcome: Outcome, images: list[str]) -> None:
    assert len(outcome.images) == len(images)
    for (_, data, ok), text in zip(outcome.images.values(), images, strict=True):
        expected = decoded(text)
        assert ok == (expected is not None)
        assert expected in {None, data}


@settings(max_examples=400, deadline=None)
@given(SEEDS)
def test_random_documents_are_understood_as_by_json(seed: int) -> None:
    """Any key order, white space, escapes and depth; any cuts; bytes pass unchanged."""
    rng = random.Random(seed)
    document = some_document(rng)
    writer = Writer(rng)
    answer = (writer.space() + writer.value(document) + writer.space()).encode("utf-8", "surrogatepass")
    fields = json.loads(answer)
    arrays = [value for key, value in document if key == "data"]
    images = [
        image for array in arrays if isinstance(array, list) for item in array for image in images_of(item)
    ]
    outcome = run(JsonCapture, splits(answer, seed))
    assert outcome.sent == (answer if images else b"")
    check_images(outcome, images)
    data = fields.get("data")
    for item in data if isinstance(data, list) else []:
        if isinstance(item, dict):
            item.pop("b64_json", None)
    assert outcome.fields == fields
    assert run(JsonCapture, [answer]).fields == fields
    last = arrays[-1] if isinstance(arrays[-1], list) else []
    final = [dict(item).get("b64_json") if isinstance(item, tuple) else None for item in last]
    assert [slot is not None for slot in outcome.slot_of_item or []] == [
        isinstance(value, str) and value != "" for value in final
    ]
    assert all(
        images[slot] == final[i] for i, slot in enumerate(outcome.slot_of_item or []) if slot is not None
    )


@settings(max_examples=400, deadline=None)
@given(SEEDS)
def test_links_change_nothing_but_urls(seed: int) -> None:
    """The client's document has the same members in the same order, with our `url` behind each whole image."""
    rng = random.Random(seed)
    items = [
        tuple(dict(item).items()) if isinstance(item, tuple) else item for item in map(some_item, [rng] * 4)
    ]
    answer = Writer(rng).value((("a", 1), ("data", items), ("url", "keep"))).encode()
    outcome = run(functools.partial(JsonCapture, link=link), splits(answer, seed))
    if not any(map(images_of, items)):
        return
    sent = json.loads(outcome.sent, object_pairs_hook=tuple)
    asked = json.loads(answer, object_pairs_hook=tuple)
    assert (sent[0], sent[2]) == (asked[0], asked[2])
    slot = 0
    for position, (got, item) in enumerate(zip(sent[1][1], asked[1][1], strict=True)):
        if not images_of(item):
            assert got == item
            continue
        mime, _, ok = outcome.images[slot]
        slot += 1
        expected = [pair for pair in item if pair[0] != "url"]
        if ok:
            at = [key for key, _ in expected].index("b64_json") + 1
            expected.insert(at, ("url", link(position, mime)))
        assert list(got) == expected


def some_stream(rng: random.Random) -> tuple[bytes, list[tuple[str, str | None]]]:
    """Events as lines with any ends, and what each is: its kind and its base64."""
    out: list[str] = []
    events: list[tuple[str, str | None]] = []
    writer = Writer(rng)
    writer.space = lambda: rng.choice(["", "", " ", "\x00", "\x00\x00"])  # type: ignore[method-assign] # may become a line end
    ends = rng.choice([["\n"], ["\r\n"], ["\r"], ["\n", "\r\n", "\r"]])
    for _ in range(rng.randrange(1, 5)):
        kind = rng.choice(["partial", "completed", "error", "other"])
        type_ = {"partial": "e.partial_image", "completed": "g.completed", "error": "error", "other": "x"}[
            kind
        ]
        image = rng.choice([None, b64(rng.randbytes(rng.choice([1, 3, 600]))), "data:x,QUJD", "Q!=="])
        pairs: Pairs = [(key, some_value(rng)) for key in ("a", "url", "data", "usage")]
        pairs = [*pairs, ("type", type_), *([("b64_json", image)] if image or rng.random() < 0.5 else [])]
        rng.shuffle(pairs)
        lines = ["data:" + rng.choice(["", " "]) + line for line in writer.value(tuple(pairs)).split("\x00")]
        for _ in range(rng.randrange(3)):
            odd = rng.choice([": c", "id: 1", f"event: {type_}", "retry: 9", "odd", "data", "event:"])
            lines.insert(rng.choice([0, len(lines)]), odd)
        if rng.random() < 0.3:
            lines = [rng.choice([": x", ""]), *lines]
        # A CR line end before an LF one would be one CRLF: the blank line is written like the line before it.
        for line in lines:
            end = rng.choice(ends)
            out.append(line + end if line else (out[-1][-1:] if out else "\n"))
        out.append("\n" if out[-1].endswith("\n") else "\r")
        events.append((kind, image))
    return (rng.choice(["", "\ufeff"]) + "".join(out)).encode(), events


@settings(max_examples=400, deadline=None)
@given(SEEDS)
def test_random_streams_are_understood_however_they_are_cut(seed: int) -> None:
    """R60: kinds, images and bytes are the same for any line ends, fields, comments and cuts."""
    rng = random.Random(seed)
    stream, events = some_stream(rng)
    for chunks in ([stream], splits(stream, seed), [stream[i : i + 1] for i in range(len(stream))]):
        capture, outcome = SseCapture(), Outcome()
        for chunk in chunks:
            gather(capture.feed(chunk), outcome)
        assert outcome.sent == stream
        assert capture.between_events
        assert [found[0] for found in outcome.events] == [kind for kind, _ in events]
        assert [found[1] is not None for found in outcome.events] == [bool(image) for _, image in events]
        assert not any("b64_json" in found[2] for found in outcome.events)
        check_images(outcome, [image for _, image in events if image])
        assert capture.is_complete == any(
            kind == "error"
            or (kind == "completed" and (slot is not None or isinstance(said.get("url"), str)))
            for kind, slot, said in outcome.events
        )


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_links_in_streams_change_nothing_but_completed_events(seed: int) -> None:
    """The client parses the same events, those with a final image with our `url` instead of any other."""
    rng = random.Random(seed)
    stream, _ = some_stream(rng)
    plain, linked = Outcome(), Outcome()
    gather(SseCapture().feed(stream), plain)
    capture = SseCapture(link=link)
    for chunk in splits(stream, seed):
        gather(capture.feed(chunk), linked)
    bodies = [parse_events(outcome.sent) for outcome in (plain, linked)]
    number = 0
    for (kind, slot, said), before, after in zip(plain.events, *bodies, strict=True):
        if kind == "completed" and slot is not None:
            mime, _, ok = plain.images[slot]
            expected = {**before, "url": link(number, mime)} if ok else before
            number += 1
            after = after if ok else {**after, **({"url": before["url"]} if "url" in before else {})}  # noqa: PLW2901
            assert after == expected
        else:
            number += kind == "completed" and isinstance(said.get("url"), str)  # an image that came as a link
            assert {**after, "url": 0} == {**before, "url": 0}


def parse_events(stream: bytes) -> list[dict[str, Any]]:
    """Read a stream as clients do."""
    lines = stream.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    found, data = [], []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[5:])
        elif not line and data:
            found.append(json.loads("\n".join(data)))
            data = []
    return found
