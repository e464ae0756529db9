"""The ledger against a provider's bill: what agrees, what differs and why, in both formats of both exports."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from pixie_proxy.accounts.reconcile import Place, compare, read_statement
from pixie_proxy.errors import InvalidValue
from pixie_proxy.index.usage import Billed
from pixie_proxy.records import bounds, new_id

DAY = "2026-11-20"
START_S = bounds(DAY)[0] // 1_000_000
USAGE = {
    "input_tokens": 20, "input_tokens_details": {"text_tokens": 20, "image_tokens": 0}, "output_tokens": 196,
}  # fmt: skip


def call(**fields: Any) -> Billed:
    basis = Billed(
        id=new_id("req"), created_us=bounds(DAY)[0] + 5, model="gpt-image-2", images=1, state="done",
        cost_micros=5980, usage=USAGE,
    )  # fmt: skip
    return replace(basis, **fields)


def bucket(*results: dict[str, Any], day: int = 0, width_s: int = 86_400) -> dict[str, Any]:
    start_s = START_S + day * 86_400
    return {
        "object": "bucket",
        "start_time": start_s,
        "end_time": start_s + width_s,
        "results": list(results),
    }


def page(*buckets: dict[str, Any]) -> str:
    return json.dumps({"object": "page", "data": buckets, "has_more": False, "next_page": None})


def images(requests: int, count: int, model: str | None = "gpt-image-2-2026-04-21") -> dict[str, Any]:
    return {
        "object": "organization.usage.images.result", "num_model_requests": requests, "images": count, "model": model,
        "size": None, "source": "image.generation", "project_id": None, "user_id": None, "api_key_id": None,
    }  # fmt: skip


def costs(usd: float, line_item: str | None = None, **more: Any) -> dict[str, Any]:
    amount = {"value": usd, "currency": "usd"}
    return {"object": "organization.costs.result", "amount": amount, "line_item": line_item, **more}


def tokens(text: int, out: int) -> dict[str, Any]:
    return {
        "object": "organization.usage.completions.result", "num_model_requests": 1, "input_tokens": text,
        "output_tokens": out, "model": "gpt-image-2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("result", "calls"),
    [
        (images(2, 3), [call(), call(images=2)]),
        (tokens(20, 196), [call()]),
        (costs(0.01196), [call(), call(model="gpt-image-2.5-flare")]),
        (costs(0.00598, "gpt-image-2, image output"), [call()]),
        (costs(0.011959, "gpt-image-2"), [call(), call()]),  # each call is rounded up: 2 micros at most
        (images(0, 0), []),
    ],
)
def test_agreement(result: dict[str, Any], calls: list[Billed]) -> None:
    """Requests, images, tokens and money, by model or by day; a snapshot's date is no difference."""
    assert compare(read_statement(page(bucket(result))), calls) == []


def test_each_difference_is_named() -> None:
    """Day, model, quantity, both amounts, and the calls that may explain it."""
    unknown = call(state="unknown", usage=None, cost_micros=40_000)
    unreported = call(usage=None, cost_micros=50_000)
    statement = read_statement(
        page(bucket(costs(0.00598, "gpt-image-2"), costs(1.5, "gpt-image-9")), bucket(day=1))
    )
    found = compare(statement, [call(), unknown, unreported, call(created_us=bounds("2026-11-21")[0])])
    assert [(each.place, each.quantity, each.ours, each.theirs) for each in found] == [
        (Place(DAY, "gpt-image-2"), "cost_micros", 95_980, Decimal(5980)),
        (Place(DAY, "gpt-image-9"), "cost_micros", 0, Decimal(1_500_000)),
        (Place("2026-11-21", "gpt-image-2"), "cost_micros", 5980, Decimal(0)),
    ]
    ours, theirs, late = (" ".join(each.hints) for each in found)
    assert str(unknown.id) in ours
    assert str(unreported.id) in ours
    assert "around the proxy" in theirs
    assert late == ""


def test_a_corrected_call_counts_as_it_was_corrected() -> None:
    """One of unknown outcome that was corrected to nothing was not made; what it took stays unknown otherwise."""
    free = call(state="unknown", usage=None, cost_micros=0, corrected_micros=-40_000)
    paid = call(state="unknown", usage=None, cost_micros=5980, corrected_micros=-34_020)
    assert compare(read_statement(page(bucket(costs(0.01196, "gpt-image-2")))), [call(), free, paid]) == []
    assert compare(read_statement(page(bucket(images(2, 2)))), [call(), free, paid]) == []
    outputs = compare(read_statement(page(bucket(tokens(40, 392)))), [call(), paid])
    assert [each.quantity for each in outputs] == ["requests", "input_tokens", "output_tokens"]
    assert {
        "corrected in money" in hint and str(paid.id) in hint for each in outputs for hint in each.hints
    } == {True}


def test_a_correction_of_no_request_counts_in_its_day() -> None:
    """It has no model, so a comparison model by model leaves it out."""
    given = call(id=None, model=None, images=0, usage=None, cost_micros=-980, corrected_micros=-980)
    assert compare(read_statement(page(bucket(costs(0.005)))), [call(), given]) == []
    assert compare(read_statement(page(bucket(costs(0.00598, "gpt-image-2")))), [call(), given]) == []
    assert compare(read_statement(page(bucket(images(1, 1, None)))), [call(), given]) == []
    (differs,) = compare(read_statement(page(bucket(costs(0.00598)))), [call(), given])
    assert "not of one request are in it: $-0.000980" in differs.hints[0]


def test_money_to_the_micro() -> None:
    """One micro above or below what rounding explains is a difference: we never book less than the provider."""
    for usd, agrees in ((0.00598, True), (0.005979, True), (0.005978, False), (0.005981, False)):
        assert (compare(read_statement(page(bucket(costs(usd)))), [call()]) == []) is agrees, usd


def test_days_outside_the_export_are_not_compared() -> None:
    """Calls of other days say nothing about it."""
    assert compare(read_statement(page(bucket(costs(0)))), [call(created_us=bounds("2026-11-19")[0])]) == []


def test_hours_and_minutes_add_up_to_their_day() -> None:
    """Narrow buckets are summed; pages may come as a list."""
    hours = [
        {**bucket(images(1, 1)), "start_time": START_S + hour * 3600, "end_time": START_S + (hour + 1) * 3600}
        for hour in range(24)
    ]
    text = json.dumps([json.loads(page(*hours[:7])), json.loads(page(*hours[7:]))])
    assert compare(read_statement(text), [call() for _ in range(24)]) == []


def test_csv_has_the_same_columns() -> None:
    """As the provider's console writes them: with a byte-order mark, empty cells and ISO times beside."""
    for result, flat in (
        (images(2, 2), {}),
        (costs(0.01196), {"amount_value": "0.01196", "amount_currency": "usd", "line_item": ""}),
    ):
        row = {
            "start_time": START_S,
            "end_time": START_S + 86_400,
            "start_time_iso": "2026-11-20T00:00:00+00:00",
        }
        row |= flat or {name: "" if value is None else value for name, value in result.items()}
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row))
        writer.writeheader()
        writer.writerow(row)
        statement = read_statement("\ufeff" + text.getvalue())
        assert compare(statement, [call(), call()]) == []
        assert compare(statement, [call()]) != []


def test_only_the_named_project_and_key_count() -> None:
    """What others spent in the same organization is left out."""
    ours = costs(0.00598, project_id="proj_a", api_key_id="key_a")
    others = costs(9, project_id="proj_b", api_key_id="key_c")
    text = page(bucket(ours, others))
    assert compare(read_statement(text), [call()]) != []
    assert compare(read_statement(text, project="proj_a"), [call()]) == []
    assert compare(read_statement(text, key="key_a"), [call()]) == []
    assert compare(read_statement(text, key="key_b"), []) == []
    with pytest.raises(InvalidValue, match="group it by project_id"):
        read_statement(page(bucket(costs(1))), project="proj_a")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "neither JSON nor a CSV"),
        ("{", "no JSON"),
        ("day,usd\n1,2\n", "start_time"),
        ("[]", "No day"),
        ('{"data": [{"results": []}]}', "without a start_time"),
        (page(bucket(width_s=86_401)), "more than one day"),
        (page({**bucket(), "start_time": START_S + 3600, "end_time": START_S + 90_000}), "more than one day"),
        (page(bucket({"images": -1})), "no amount"),
        (page(bucket({"images": "NaN"})), "no amount"),
        (page(bucket({"amount": {"value": 1, "currency": "eur"}})), "in eur"),
        (page({**bucket(), "start_time": "soon"}), "no time"),
    ],
)
def test_what_is_no_export(text: str, fault: str) -> None:
    """It is told in one sentence what is wrong."""
    with pytest.raises(InvalidValue) as caught:
        read_statement(text)
    assert fault in caught.value.message
