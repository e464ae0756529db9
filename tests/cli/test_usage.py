"""`pixie usage reconcile`, as an operator types it with the provider's export at hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Ended, pixie
from tests.support import outside
from tests.support.proxy import run_proxy
from tests.support.upstream import ScriptedUpstream, image_json

GENERATIONS = "/v1/images/generations"
USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"text_tokens": 20, "image_tokens": 0},
    "output_tokens": 196,
}
COST_USD = 0.00598


@pytest.fixture
async def used(tmp_path: Path, upstream: ScriptedUpstream) -> Path:
    """A data directory of a proxy that made three calls today."""
    upstream.default(*image_json(2, usage=USAGE))
    async with run_proxy(tmp_path / "data", upstream.base_url) as proxy:
        for _ in range(3):
            outside.json_of(await proxy.request("POST", GENERATIONS, json={"prompt": "a fox", "n": 2}))
        await outside.settled(tmp_path / "data")
    return tmp_path / "data"


async def reconcile(data: Path, result: dict[str, Any], *options: str) -> Ended:
    """Compare with an export that knows of today only."""
    start_s = int(datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp())
    bucket = {"object": "bucket", "start_time": start_s, "end_time": start_s + 86_400, "results": [result]}
    export = data.parent / "export.json"
    export.write_text(json.dumps({"object": "page", "data": [bucket]}))
    return await pixie("usage", "reconcile", str(export), *options, "--data", str(data), cwd=data.parent)


async def test_both_agree(used: Path) -> None:
    """Then it says so in one line, and the exit code is 0."""
    ended = await reconcile(used, {"num_model_requests": 3, "images": 6, "model": "gpt-image-2"})
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith("the ledger and the provider agree.\n")
    ended = await reconcile(used, {"amount": {"value": 3 * COST_USD, "currency": "usd"}}, "--json")
    assert json.loads(ended.out)["agrees"] is True


async def test_they_differ(used: Path) -> None:
    """Then each difference is a line with both amounts, and the exit code is 1."""
    ended = await reconcile(
        used, {"amount": {"value": 0.02, "currency": "usd"}, "line_item": "gpt-image-2, output"}
    )
    assert ended.code == 1
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    assert f"{day}  gpt-image-2  cost in USD  0.017940  0.020000  -0.002060" in ended.out
    ended = await reconcile(used, {"num_model_requests": 2, "images": 6, "model": "gpt-image-2"}, "--json")
    (difference,) = json.loads(ended.out)["differences"]
    assert difference == {
        "day": day, "model": "gpt-image-2", "what": "requests", "here": 3, "provider": 2, "hints": [],
    }  # fmt: skip


async def test_what_is_no_export(used: Path) -> None:
    """It is told in one line, with exit code 2."""
    (used.parent / "bill.txt").write_text("Dear customer,")
    ended = await pixie("usage", "reconcile", "bill.txt", "--data", str(used), cwd=used.parent)
    assert (ended.code, ended.out) == (2, "")
    assert ended.errors == ["pixie: This is neither JSON nor a CSV file with a column start_time."]
