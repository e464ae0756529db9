"""What clients of retired models ask for, in today's words; and that nobody else's words are touched."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pixie_proxy.pricing import load_prices
from pixie_proxy.relay.request import ImageRequest
from pixie_proxy.relay.translation import HEADER, translate
from pixie_proxy.upstream import TextPart

PRICES = load_prices({"flux": [{"usd_per_image": 0.04}]})


def translated(
    fields: dict[str, Any], model: str = "gpt-image-2", name: str = "dall-e-3"
) -> tuple[dict[str, Any], str | None]:
    """Give what is left of a request's fields, and what its client is told."""
    body = json.dumps({"prompt": "a cat", "model": name, **fields}).encode()
    asked, said = translate(ImageRequest.from_json("generation", body, allow_file_id=False), model, PRICES)
    sent = json.loads(asked.to_upstream("req_1", model, None).json or b"")
    return {key: value for key, value in sent.items() if key not in {"prompt", "model"}}, said.get(HEADER)


@pytest.mark.parametrize(
    ("fields", "sent", "said"),
    [
        ({}, {}, ""),
        ({"quality": "standard"}, {"quality": "medium"}, ", quality=standard->medium"),
        ({"quality": "hd"}, {"quality": "high"}, ", quality=hd->high"),
        ({"quality": "low", "size": "auto"}, {"quality": "low", "size": "auto"}, ""),
        ({"style": "vivid"}, {}, ", style dropped"),
        ({"style": None}, {"style": None}, ""),
        ({"size": "256x256"}, {"size": "1024x1024"}, ", size=256x256->1024x1024"),
        ({"size": "512x512"}, {"size": "1024x1024"}, ", size=512x512->1024x1024"),
        ({"size": "1792x1024"}, {"size": "1792x1024"}, ""),
        ({"size": "600x600"}, {"size": "600x600"}, ""),
        ({"input_fidelity": "high"}, {}, ", input_fidelity dropped"),
        (
            {"quality": "hd", "size": "512x512", "style": "x\r\ny: z", "n": 1, "user": "u"},
            {"quality": "high", "size": "1024x1024", "n": 1, "user": "u"},
            ", quality=hd->high, size=512x512->1024x1024, style dropped",
        ),
        ({"quality": ["hd"], "size": 512}, {"quality": ["hd"], "size": 512}, ""),
    ],
)
def test_each_old_word_has_a_new_one(fields: dict[str, Any], sent: dict[str, Any], said: str) -> None:
    """What the new model would refuse is changed or left out, and told; all else goes on as it came."""
    assert translated(fields) == (sent, "model=dall-e-3->gpt-image-2" + said)


@pytest.mark.parametrize(
    ("size", "nearest"),
    [("1792x1024", "1536x1024"), ("1024x1792", "1024x1536"), ("256x256", "1024x1024"), ("1024x1024", None)],
)
def test_a_model_of_three_sizes_gets_the_nearest(size: str, nearest: str | None) -> None:
    """1.5 knows three: what is wide stays wide. It knows `input_fidelity` too, which stays."""
    sent, said = translated({"size": size, "input_fidelity": "high"}, "gpt-image-1.5")
    assert sent == {"size": nearest or size, "input_fidelity": "high"}
    assert said == "model=dall-e-3->gpt-image-1.5" + (f", size={size}->{nearest}" if nearest else "")


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt-image-2", "gpt-image-2"),
        ("dall-e-3", "dall-e-3"),
        ("ours", "gpt-image-2"),
        ("gpt-image-2", "gpt-image-2.5-flare"),
        ("dall-e-3", "flux"),
        ("dall-e-3", "sd-xl"),
        ("gpt-image-1.5", "gpt-image-1.5"),
    ],
)
def test_nobody_else_is_translated(name: str, model: str) -> None:
    """Not a real model, not an alias of another name, and not for a model that we know nothing of."""
    fields = {"quality": "hd", "size": "512x512", "style": "vivid", "input_fidelity": "high"}
    assert translated(fields, model, name) == (fields, None)


@pytest.mark.parametrize("name", ["gpt-image-1", "gpt-image-1.5", "gpt-image-1-mini", "dall-e-2"])
def test_every_name_that_ends_is_translated(name: str) -> None:
    """Those that are about to be shut down, too: an alias says that their clients are to move."""
    assert translated({"input_fidelity": "low"}, name=name) == (
        {},
        f"model={name}->gpt-image-2, input_fidelity dropped",
    )


def test_a_form_is_translated_part_by_part() -> None:
    """Changed parts keep their place, dropped ones are gone however often they came, all others stay byte for byte."""
    texts = [
        ("model", b"dall-e-2"),
        ("style", b"vivid"),
        ("size", b"256x256"),
        ("prompt", b"a\r\ncat"),
        ("style", b"natural"),
        ("user", b"u"),
    ]
    parts = [TextPart(name=name, value=value) for name, value in texts]
    request = ImageRequest.from_form("edit", parts, (), allow_file_id=False)
    asked, said = translate(request, "gpt-image-2", PRICES)
    sent = asked.to_upstream("req_1", "gpt-image-2", None).form
    assert [(part.name, part.value) for part in sent if isinstance(part, TextPart)] == [
        ("size", b"1024x1024"),
        ("prompt", b"a\r\ncat"),
        ("user", b"u"),
        ("model", b"gpt-image-2"),
    ]
    assert said[HEADER] == "model=dall-e-2->gpt-image-2, size=256x256->1024x1024, style dropped"


def test_two_names_of_one_call_are_one_call() -> None:
    """The fingerprint is that of what is sent: an old client's retry in new words is the same call."""
    old = b'{"prompt": "a cat", "model": "dall-e-3", "quality": "hd", "style": "vivid"}'
    new = b'{"prompt": "a cat", "model": "gpt-image-2", "quality": "high"}'
    prints = {
        translate(ImageRequest.from_json("generation", body, allow_file_id=False), "gpt-image-2", PRICES)[
            0
        ].fingerprint("usr_1", "gpt-image-2")
        for body in (old, new)
    }
    assert len(prints) == 1
