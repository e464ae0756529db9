"""Reconciliation: a provider's own account of what it billed, held against the ledger day by day and model by model.

Reads what OpenAI's usage and costs API answer (`/organization/usage/images`, `/organization/usage/completions`,
`/organization/costs`, also several of their pages in one list), and the CSV files with the same columns.
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import orjson

from pixie_proxy.errors import InvalidValue
from pixie_proxy.index.usage import Billed
from pixie_proxy.pricing import usage_from_json
from pixie_proxy.records import period

Quantity = Literal["requests", "images", "input_tokens", "output_tokens", "cost_micros"]

QUANTITIES: tuple[Quantity, ...] = ("requests", "images", "input_tokens", "output_tokens", "cost_micros")
_COUNTS = {
    "num_model_requests": "requests",
    "images": "images",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
}
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_DAY_S = 86_400
_MICROS = 1_000_000
_SHOWN_CALLS = 5


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line of the comparison. `model` None is a day's sum, where the provider does not tell models apart."""

    day: str
    model: str | None


@dataclass(slots=True)
class Statement:
    """What a provider says it billed: only quantities that it reports are compared. Money in micros, unrounded."""

    sums: dict[Place, dict[Quantity, Decimal]] = field(default_factory=dict)

    def add(self, place: Place, quantity: Quantity, amount: Decimal) -> None:
        """Count something in."""
        line = self.sums.setdefault(place, {})
        line[quantity] = line.get(quantity, Decimal(0)) + amount

    @property
    def days(self) -> list[str]:
        """Give the days that it speaks of, in order."""
        return sorted({place.day for place in self.sums})


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One quantity that the two sides do not agree on, and what the ledger knows that may explain it."""

    place: Place
    quantity: Quantity
    ours: int
    theirs: Decimal
    hints: tuple[str, ...]


def read_statement(text: str, *, project: str | None = None, key: str | None = None) -> Statement:
    """Read a provider's export, JSON or CSV; of a project or of an upstream key alone, where it tells these apart.

    Raises InvalidValue with what is wrong with it.
    """
    statement = Statement()
    for start_s, end_s, result in _results(text):
        day = period(start_s * _MICROS)["day"]
        if end_s - start_s > _DAY_S or period((end_s - 1) * _MICROS)["day"] != day:
            message = (
                f"A bucket goes over more than one day ({day} …): export it with bucket_width=1d, in UTC."
            )
            raise InvalidValue(message)
        statement.sums.setdefault(Place(day, None), {})  # a day without results was a day without costs
        if _is_of(result, "project_id", project) and _is_of(result, "api_key_id", key):
            _count(statement, day, result)
    if not statement.sums:
        message = "No day is in there: is this the usage or costs export of the provider?"
        raise InvalidValue(message)
    return statement


def compare(statement: Statement, calls: Iterable[Billed]) -> list[Difference]:
    """Hold the ledger's calls of the statement's days against it; returns every difference.

    A call counts at its corrected cost; one of unknown outcome that was corrected to nothing was not made. A
    correction that is not of one call has no model, so it counts where days are compared as a whole. Each call's cost
    is rounded up to a micro here, so money may differ by less than a micro a call.
    """
    ours: defaultdict[Place, list[Billed]] = defaultdict(list)
    for call in calls:
        if call.state == "unknown" and call.cost_micros == 0:
            continue
        day = period(call.created_us)["day"]
        ours[Place(day, None)].append(call)
        if call.model is not None:
            ours[Place(day, _base(call.model))].append(call)
    reported = {quantity for line in statement.sums.values() for quantity in line}
    by_model = {
        quantity for place, line in statement.sums.items() if place.model is not None for quantity in line
    }
    differences: list[Difference] = []
    for place in sorted({*statement.sums, *ours}, key=lambda each: (each.day, each.model or "")):
        if place.day not in statement.days:
            continue
        theirs = statement.sums.get(place, {})
        for quantity in QUANTITIES:
            told_here = quantity in by_model if place.model is not None else quantity in reported - by_model
            if told_here:
                found = _difference(place, quantity, ours.get(place, []), theirs.get(quantity, Decimal(0)))
                differences += [found] if found else []
    return differences


def _difference(place: Place, quantity: Quantity, calls: list[Billed], theirs: Decimal) -> Difference | None:
    ours = sum(_amount(call, quantity) for call in calls)
    rounding = len(calls) if quantity == "cost_micros" else 0
    if 0 <= ours - theirs <= rounding:
        return None
    return Difference(place=place, quantity=quantity, ours=ours, theirs=theirs, hints=tuple(_hints(calls)))


def _amount(call: Billed, quantity: Quantity) -> int:
    """Give what one call adds to a quantity; an answer without a usage has no tokens that anyone knows of."""
    if quantity == "requests":
        return int(call.id is not None)
    if quantity == "images":
        return call.images
    if quantity == "cost_micros":
        return call.cost_micros
    used = usage_from_json(call.usage, call.images)
    if used is None:
        return 0
    return used.text_in + used.image_in if quantity == "input_tokens" else used.text_out + used.image_out


def _hints(calls: list[Billed]) -> Iterator[str]:
    """Say what may explain a line: calls whose cost here is not what the upstream reported, or none at all."""
    if not calls:
        yield "the ledger has none of it: it went around the proxy (--project and --api-key-id leave others out)"
    untold = [
        call for call in calls if call.id is not None and usage_from_json(call.usage, call.images) is None
    ]
    corrected = [call for call in untold if call.corrected_micros]
    unknown = [call for call in untold if call.state == "unknown" and call not in corrected]
    if unknown:
        yield f"{len(unknown)} of unknown outcome are charged here at the most they can cost: {_ids(unknown)}"
    guessed = [call for call in untold if call.state == "done" and call not in corrected]
    if guessed:
        yield f"{len(guessed)} came without a usage and are charged at the most they can cost: {_ids(guessed)}"
    if corrected:
        yield f"{len(corrected)} were corrected in money, and what they took is not known: {_ids(corrected)}"
    if micros := sum(call.cost_micros for call in calls if call.id is None):
        yield f"corrections that are not of one request are in it: ${micros / _MICROS:+.6f}"


def _ids(calls: list[Billed]) -> str:
    shown = ", ".join(str(call.id) for call in calls[:_SHOWN_CALLS])
    return shown if len(calls) <= _SHOWN_CALLS else f"{shown} …"


def _is_of(result: Mapping[str, Any], column: str, wanted: str | None) -> bool:
    """Tell whether a result is of the project or key that is asked for. Raises InvalidValue if it doesn't say."""
    if wanted is None or not result:
        return True
    if not result.get(column):
        message = f"The export does not tell {column} apart: group it by {column}."
        raise InvalidValue(message)
    return bool(result[column] == wanted)


def _count(statement: Statement, day: str, result: Mapping[str, Any]) -> None:
    """Add one result: of the usage API its counts, of the costs API its amount."""
    named = result.get("model") or result.get("line_item")
    model = _base(str(named).split(",")[0].strip()) if named else None
    for theirs, quantity in _COUNTS.items():
        if result.get(theirs) not in (None, ""):
            statement.add(Place(day, model), quantity, _number(result[theirs], theirs))  # type: ignore[arg-type]
    amount = result.get("amount")
    value = amount.get("value") if isinstance(amount, dict) else result.get("amount_value", amount)
    if value not in (None, ""):
        currency = str(amount.get("currency") if isinstance(amount, dict) else result.get("amount_currency"))
        if currency.lower() not in {"usd", "none", ""}:
            message = f"Amounts are in {currency}; the ledger is in USD."
            raise InvalidValue(message)
        statement.add(Place(day, model), "cost_micros", _number(value, "amount") * _MICROS)


def _base(model: str) -> str:
    """Drop the date of a snapshot: bills and calls name a model with and without it."""
    return _SNAPSHOT.sub("", model)


def _results(text: str) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """Yield (start, end, result) of each bucket, in epoch seconds; one empty result for a bucket without any."""
    if text.lstrip("\ufeff \t\r\n")[:1] in {"{", "["}:
        yield from _json_results(text)
        return
    reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff")))
    if "start_time" not in (reader.fieldnames or ()):
        message = "This is neither JSON nor a CSV file with a column start_time."
        raise InvalidValue(message)
    for row in reader:
        start_s = _time_s(row["start_time"])
        yield start_s, _time_s(row.get("end_time") or start_s + _DAY_S), row


def _json_results(text: str) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    try:
        said = orjson.loads(text.lstrip("\ufeff"))
    except orjson.JSONDecodeError as exc:
        message = f"This is no JSON: {exc}."
        raise InvalidValue(message) from None
    buckets = [
        bucket
        for page in (said if isinstance(said, list) else [said])
        if isinstance(page, dict)
        for bucket in (page.get("data", [page]) if page.get("object") != "bucket" else [page])
    ]
    for bucket in buckets:
        if not isinstance(bucket, dict) or "start_time" not in bucket:
            message = "A bucket without a start_time is in there: give the API's answers as they came."
            raise InvalidValue(message)
        start_s = _time_s(bucket["start_time"])
        end_s = _time_s(bucket.get("end_time") or start_s + _DAY_S)
        results = bucket.get("results") or bucket.get("result") or [{}]
        for result in results:
            yield start_s, end_s, result


def _time_s(value: object) -> int:
    """Read epoch seconds or ISO-8601 (UTC unless it says otherwise)."""
    try:
        return int(str(value))
    except ValueError:
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            message = f"{value!r} is no time: epoch seconds or ISO-8601 are."
            raise InvalidValue(message) from None
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _number(value: object, name: str) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite() or number < 0:
        message = f"{name} is {value!r}, which is no amount."
        raise InvalidValue(message)
    return number
