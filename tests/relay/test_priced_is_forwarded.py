"""What was priced is what was forwarded: whatever a body holds, the upstream reads it as we did, or we refuse it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from pixie_proxy.errors import ProxyError
from pixie_proxy.generation.quoting import wanted_of
from pixie_proxy.records import Kind
from pixie_proxy.relay.request import ImageRequest
from tests.support.figures import RecordFigure

Values = Callable[[random.Random], str]

NASTY = [
    "NaN", "Infinity", "-Infinity", "1e308", "1e400", "-0", "0", "1", "2", "3", "10", "11", "1.0", "2.0", "-1",
    str(2**63), str(2**64), str(2**200), "true", "false", "null", '""', '"null"', '"2"', "[]", "{}", "[1]",
    '"\\ud800"', '"\\u0000"', '"\\udc00\\ud800"', '"1024x1024"', '"2880x2880"', '"auto"', '"1024X1024"',
    '" 1024x1024"', '"low"', '"high"', '"LOW"', '"png"', '"svg"', '"gif"', '"gpt-image-2"', '"dall-e-3"',
    '["low"]', '{"low": 1}', "'low'", "tru", "01", "+1", "1_0", '"\n"', "[" * 300 + "]" * 300,
    "[" * 1025 + "]" * 1025, '{"a":' * 300 + "1" + "}" * 300,
]  # fmt: skip
GOOD: dict[str, list[str]] = {
    "prompt": ['"a cat"', '"\\u00e4"', '"\\ud83d\\ude00"'],
    "model": ['"gpt-image-2"', "null"],
    "n": ["1", "2", "10", "null"],
    "size": ['"1024x1024"', '"auto"', "null"],
    "quality": ['"low"', '"high"', "null"],
    "output_format": ['"png"', '"gif"', "null"],
    "stream": ["true", "false", "null"],
    "partial_images": ["0", "3", "null"],
    "svg": ['{"model": "gpt-5.5"}', "null"],
}
NAMES = [*GOOD, "Size", "size ", "images", "mask", "svg[model]", "\\u0073ize", "\\u006e", "x"]


def a_body(rng: random.Random) -> bytes:
    """Write a body that is mostly good, with nasty values, names that are equal once they are read, and junk."""
    names = rng.sample(list(GOOD), rng.randint(1, len(GOOD)))
    members = [(name, rng.choice(GOOD[name])) for name in ["prompt", *names]]
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        members.insert(rng.randint(0, len(members)), (rng.choice(NAMES), rng.choice(NASTY)))
    for _ in range(rng.choice((0, 0, 1))):
        name = rng.choice(list(GOOD))
        members.insert(rng.randint(0, len(members)), (name, rng.choice(GOOD[name])))
    text = "{" + ", ".join(f'"{name}": {value}' for name, value in members) + "}"
    body = bytearray(text.encode())
    if rng.random() < 0.05:
        body[rng.randrange(len(body))] = rng.randrange(256)
    return bytes(body)


def strictly(sent: bytes) -> dict[str, Any]:
    """Read a body as a server would that forgives nothing: no name twice, no NaN."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in found}) == len(found), found
        return dict(found)

    def constant(name: str) -> Any:
        raise AssertionError(name)

    said: dict[str, Any] = json.loads(
        sent.decode("utf-8", "strict"), object_pairs_hook=pairs, parse_constant=constant
    )
    return said


@pytest.mark.parametrize("count", [3000, pytest.param(200_000, marks=pytest.mark.torture)])
def test_what_was_priced_is_what_is_forwarded(count: int, record_figure: RecordFigure) -> None:
    """Model, n, size, quality, format, stream, partial images; what is bad is refused with 400, and never a crash."""
    rng = random.Random(seed := 58)
    kinds: tuple[Kind, ...] = ("generation", "edit")
    sent_on = refused = 0
    for _ in range(count):
        body = a_body(rng)
        try:
            asked = ImageRequest.from_json(rng.choice(kinds), body, allow_file_id=False)
            wanted = wanted_of(asked, "gpt-image-2")
            asked.params()
            asked.fingerprint("usr_1", "gpt-image-2")
            sent = asked.to_upstream("req_1", "gpt-image-2", None)
        except ProxyError as exc:
            status, said = exc.answer()
            assert status == 400
            assert set(said["error"]) == {"message", "type", "param", "code"}
            refused += 1
            continue
        said = strictly(sent.json or b"")
        texts = [said.get(name) for name in ("size", "quality", "output_format")]
        assert (said["model"], said.get("n") or 1, sent.images) == (wanted.model, wanted.n, wanted.n), body
        assert (said.get("stream") or False, said.get("partial_images") or 0) == (
            asked.is_stream,
            wanted.partial_images,
        ), body
        assert [text if isinstance(text, str) else None for text in texts[:2]] == [
            wanted.size,
            wanted.quality,
        ], body
        assert wanted.output_format == (texts[2] if isinstance(texts[2], str | None) else "?"), body
        assert (wanted.svg_author is None) == (
            said.get("output_format") != "svg"
            and not any(name.startswith("svg") and value is not None for name, value in said.items())
        ), body
        sent_on += 1
    assert sent_on > count // 4
    assert refused > count // 10
    record_figure("R58", bodies=count, forwarded=sent_on, refused=refused, differences=0, seed=seed)
