"""An upstream that keeps its own bill, with its own arithmetic, and exports it as OpenAI does.

Its token counts and prices are written here once more, by hand: nothing of it comes from `pixie_proxy.pricing`.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from random import Random
from typing import Any, Literal

from tests.support.pictures import png
from tests.support.upstream import (
    Exchange,
    Received,
    ScriptedUpstream,
    cut,
    error_json,
    image_json,
    image_sse,
)

Mood = Literal["sell", "misreport", "refuse", "lose", "drop"]

LOW, MEDIUM, HIGH = "low", "medium", "high"
SQUARE, UPRIGHT = "1024x1024", "1024x1536"
TOKENS: dict[str, dict[tuple[str, str], int]] = {
    "gpt-image-2": {
        (SQUARE, LOW): 196, (SQUARE, MEDIUM): 1756, (SQUARE, HIGH): 7024,
        (UPRIGHT, LOW): 158, (UPRIGHT, MEDIUM): 1372, (UPRIGHT, HIGH): 5488,
    },
    "gpt-image-2.5-flare": {
        (SQUARE, LOW): 196, (SQUARE, MEDIUM): 439, (SQUARE, HIGH): 1756,
        (UPRIGHT, LOW): 158, (UPRIGHT, MEDIUM): 343, (UPRIGHT, HIGH): 1372,
    },
    "gpt-image-1-mini": {
        (SQUARE, LOW): 625, (SQUARE, MEDIUM): 1375, (SQUARE, HIGH): 4500,
        (UPRIGHT, LOW): 750, (UPRIGHT, MEDIUM): 1875, (UPRIGHT, HIGH): 6500,
    },
}  # fmt: skip
"""Output tokens of one picture by model, size and quality."""
USD_PER_MILLION = {
    "gpt-image-2": ("5", "8", "30"),
    "gpt-image-2.5-flare": ("5", "8", "30"),
    "gpt-image-1-mini": ("2", "2.5", "8"),
}
"""Text in, image in, image out."""
_INPUT_TOKENS = {"gpt-image-2": 1457, "gpt-image-2.5-flare": 1457, "gpt-image-1-mini": 581}
_PARTIAL_TOKENS = 100
_DAY_S = 86_400
_NONSENSE = {"input_tokens": -5, "output_tokens": "free"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One call on the bill."""

    day: int
    """Since the epoch, UTC."""
    model: str
    prompt: str
    images: int
    text_in: int
    image_in: int
    image_out: int

    @property
    def parts_usd(self) -> dict[str, Decimal]:
        """What each kind of token comes to, exactly."""
        kinds = ("text input", "image input", "image output")
        counts = (self.text_in, self.image_in, self.image_out)
        prices = (Decimal(price) / 1_000_000 for price in USD_PER_MILLION[self.model])
        return {kind: count * price for kind, count, price in zip(kinds, counts, prices, strict=True)}

    @property
    def micros(self) -> int:
        """What the call comes to, rounded up to a micro."""
        return int((sum(self.parts_usd.values(), Decimal(0)) * 1_000_000).to_integral_value(ROUND_CEILING))


class Provider(ScriptedUpstream):
    """The server. `mood` says how a call with a prompt ends; `lose` charges for what it never answers, `drop` doesn't.

    `now` is the clock that bills go by, in epoch seconds.
    """

    def __init__(self, mood: Callable[[str], Mood], now: Callable[[], float]) -> None:
        super().__init__()
        self.charges: list[Charge] = []
        self._mood = mood
        self._now = now
        self.default(self._answer)

    async def _answer(self, exchange: Exchange) -> None:
        order = _order(exchange.request)
        mood = self._mood(order["prompt"])
        if mood == "refuse":
            await exchange.play(error_json(400, code="moderation_blocked"))
            return
        if mood == "drop":
            await exchange.play(cut("rst"))
        charge, usage = self._charge(order)
        self.charges.append(charge)
        if mood == "lose":
            await exchange.play(cut("rst"))
        told = _NONSENSE if mood == "misreport" else usage
        random = Random(order["prompt"])
        pictures = [png(size_bytes=1_000, seed=random.getrandbits(60)) for _ in range(charge.images)]
        echo = {"size": order["size"], "quality": order["quality"]}
        if order["stream"]:
            kind: Any = "edit" if order["inputs"] else "generation"
            await exchange.play(image_sse(pictures, partials=1, kind=kind, usage=told, **echo))
        else:
            await exchange.play(image_json(pictures, usage=told, **echo))

    def _charge(self, order: dict[str, Any]) -> tuple[Charge, dict[str, Any]]:
        """Bill an order; gives the usage to report as well: of the whole, or (as streams do) of each picture."""
        model, n, is_stream = order["model"], order["n"], order["stream"]
        text = max(1, len(order["prompt"]) // 4)
        image = order["inputs"] * _INPUT_TOKENS[model]
        out = TOKENS[model][order["size"], order["quality"]]
        times, told_out = (n, out + _PARTIAL_TOKENS) if is_stream else (1, n * out)
        charge = Charge(
            day=int(self._now()) // _DAY_S,
            model=model,
            prompt=order["prompt"],
            images=n,
            text_in=times * text,
            image_in=times * image,
            image_out=times * told_out,
        )
        usage = {
            "input_tokens": text + image,
            "input_tokens_details": {"text_tokens": text, "image_tokens": image},
            "output_tokens": told_out,
            "total_tokens": text + image + told_out,
        }
        return charge, usage

    # --- Exports ----------------------------------------------------------------------------------------------------

    def images_json(self, days: Iterable[int]) -> str:
        """Export requests and images as `/organization/usage/images` does, by model."""
        return self._page(days, self._by_model(lambda charge: {"images": charge.images}))

    def tokens_csv(self, days: Iterable[int]) -> str:
        """Export tokens as `/organization/usage/completions` does, by model, as a CSV file."""
        found = self._by_model(
            lambda charge: {
                "input_tokens": charge.text_in + charge.image_in,
                "output_tokens": charge.image_out,
            }
        )
        names = ("start_time", "end_time", "num_model_requests", "input_tokens", "output_tokens", "model")
        return _table(names, days, found)

    def costs_json(self, days: Iterable[int]) -> str:
        """Export money as `/organization/costs` does, by line item."""
        results = {
            day: [
                {"amount": {"value": float(usd), "currency": "usd"}, "line_item": item}
                for item, usd in items.items()
            ]
            for day, items in self._costs().items()
        }
        return self._page(days, results)

    def costs_csv(self, days: Iterable[int]) -> str:
        """Export money as a CSV file, each day as a whole."""
        results = {
            day: [{"amount_value": str(sum(items.values())), "amount_currency": "usd", "line_item": ""}]
            for day, items in self._costs().items()
        }
        return _table(
            ("start_time", "end_time", "amount_value", "amount_currency", "line_item"), days, results
        )

    def _by_model(self, counts: Callable[[Charge], dict[str, int]]) -> dict[int, list[dict[str, Any]]]:
        sums: defaultdict[int, dict[str, dict[str, Any]]] = defaultdict(dict)
        for charge in self.charges:
            line = sums[charge.day].setdefault(charge.model, {"num_model_requests": 0, "model": charge.model})
            line["num_model_requests"] += 1
            for name, count in counts(charge).items():
                line[name] = line.get(name, 0) + count
        return {day: list(lines.values()) for day, lines in sums.items()}

    def _costs(self) -> dict[int, dict[str, Decimal]]:
        sums: defaultdict[int, defaultdict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        for charge in self.charges:
            for kind, usd in charge.parts_usd.items():
                sums[charge.day][f"{charge.model}, {kind}"] += usd
        return {day: dict(items) for day, items in sums.items()}

    @staticmethod
    def _page(days: Iterable[int], results: dict[int, list[dict[str, Any]]]) -> str:
        buckets = [{"object": "bucket", **_bounds(day), "results": results.get(day, [])} for day in days]
        return json.dumps({"object": "page", "data": buckets, "has_more": False, "next_page": None})


def day_of(text: str) -> int:
    """Give a day as days since the epoch."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) // _DAY_S


def _bounds(day: int) -> dict[str, int]:
    return {"start_time": day * _DAY_S, "end_time": (day + 1) * _DAY_S}


def _table(names: tuple[str, ...], days: Iterable[int], results: dict[int, list[dict[str, Any]]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    writer.writerows({**_bounds(day), **result} for day in days for result in results.get(day, [{}]))
    return text.getvalue()


def _order(request: Received) -> dict[str, Any]:
    """Read what is wanted."""
    if request.parts:
        said: dict[str, Any] = {
            part.name: (part.data or b"").decode() for part in request.parts if not part.filename
        }
        inputs = sum(part.filename is not None for part in request.parts)
    else:
        said, inputs = request.json(), 0
    return {
        "model": said["model"],
        "prompt": said["prompt"],
        "n": int(said.get("n") or 1),
        "size": said["size"],
        "quality": said["quality"],
        "stream": str(said.get("stream", "")).lower() == "true",
        "inputs": inputs,
    }
