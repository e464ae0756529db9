"""Runs a capture over chunks and gathers what came out, so that tests compare outcomes and not pieces."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pixie_proxy.relay.capture import (
    AnswerBroken,
    EventEnded,
    ImageBytes,
    ImageEnded,
    ImageStarted,
    JsonCapture,
    Piece,
    Relay,
    Skeleton,
    SseCapture,
    Withhold,
)
from pixie_proxy.relay.skeleton import Base64

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 2 + b"\xff\xfe\xfd"
JPEG = b"\xff\xd8\xff" + b"~~~???>>>" * 9
Make = Callable[[], JsonCapture | SseCapture]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def link(number: int, mime: str) -> str:
    return f'https://pix.example/i/{number}-"é".{mime.rpartition("/")[2]}'


@dataclass
class Outcome:
    """What one answer became."""

    sent: bytes = b""
    free: bytes = b""
    """What was relayed before anything was withheld."""
    images: dict[int, tuple[str, bytes, bool]] = field(default_factory=dict)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    fields: dict[str, Any] | None = None
    slot_of_item: list[int | None] | None = None
    completed: int | None = None

    @property
    def completed_events(self) -> int:
        return sum(1 for kind, slot, _ in self.events if kind == "completed" and slot is not None)


def gather(pieces: Iterable[Piece], outcome: Outcome) -> None:
    """Add pieces to an outcome, and check what a pump relies on."""
    held = False
    for piece in pieces:
        match piece:
            case Relay(data=data):
                assert not held, "bytes overtake withheld ones"
                assert data
                outcome.sent += data
                outcome.free += data
            case Withhold(data=data):
                held = True
                outcome.sent += data
            case ImageStarted(slot=slot, mime=mime):
                assert slot == len(outcome.images)
                outcome.images[slot] = (mime, b"", False)
            case ImageBytes(slot=slot, data=data):
                assert data
                outcome.images[slot] = (outcome.images[slot][0], outcome.images[slot][1] + data, False)
            case ImageEnded(slot=slot, ok=ok):
                outcome.images[slot] = (*outcome.images[slot][:2], ok)
            case EventEnded():
                held = False
                outcome.events.append(tuple(piece))


def run(make: Make, chunks: Iterable[bytes]) -> Outcome:
    """Capture a whole answer."""
    capture, outcome = make(), Outcome()
    for chunk in chunks:
        gather(capture.feed(chunk), outcome)
    gather(capture.finish(), outcome)
    assert capture.is_complete
    if isinstance(capture, JsonCapture):
        outcome.fields, outcome.slot_of_item = capture.fields, capture.slot_of_item
    else:
        outcome.completed = capture.completed
    if capture.skeleton.is_exact:
        images = [(data[:7], data[7:]) for _, data, _ in outcome.images.values()]
        assert b"".join(rendered(capture.skeleton, images.__getitem__)) == outcome.sent
    return outcome


def rendered(
    skeleton: Skeleton, open_image: Callable[[int], Iterable[bytes]], *, partials: bool = True
) -> Iterator[bytes]:
    """Write an answer again; `open_image` gives the pieces of the image in a slot."""
    for step in skeleton.steps(partials=partials):
        if isinstance(step, bytes):
            yield step
            continue
        encoder = Base64(step)
        for piece in open_image(step.number):
            yield from encoder.feed(piece)
        yield encoder.finish()


def is_refused(make: Make, chunks: Iterable[bytes]) -> AnswerBroken | None:
    """Tell how a capture refuses an answer; None if it takes it."""
    try:
        run(make, chunks)
    except AnswerBroken as exc:
        return exc
    return None


def splits(data: bytes, seed: int) -> list[bytes]:
    """Cut at random places, often close together."""
    rng = random.Random(seed)
    chunks, at = [], 0
    while at < len(data):
        step = rng.choice([1, 1, 2, 3, 5, 17, 200, 9000])
        chunks.append(data[at : at + step])
        at += step
    return chunks


def json_answer(*images: bytes, **more: Any) -> bytes:
    """Write an answer as OpenAI does."""
    data = [{"b64_json": b64(image), "revised_prompt": 'a "b64_json":"x" \\ cat'} for image in images]
    usage = {"input_tokens": 5, "input_tokens_details": {"text_tokens": 5}, "output_tokens": 7}
    return json.dumps({"created": 1, "background": "opaque", "data": data, "usage": usage, **more}).encode()


def event(kind: str, image: bytes | None, end: str = "\n", **more: Any) -> bytes:
    """Write one event as OpenAI does."""
    body: dict[str, Any] = {"type": f"image_generation.{kind}"}
    if image is not None:
        body["b64_json"] = b64(image)
    text = json.dumps({**body, "created_at": 1, "usage": {"b64_json": "x"}, **more})
    return f"event: {body['type']}{end}data: {text}{end}{end}".encode()
