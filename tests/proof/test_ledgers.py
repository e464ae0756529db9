"""The checker can fail: each kind of damage is found, under its own name, and a clean run has none."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support import outside
from tests.support.callers import Order, Receipt, orders, place
from tests.support.ledgers import Report, compare
from tests.support.proxy import run_proxy
from tests.support.studio import Sale, Studio


@dataclass
class Run:
    """A run that went well, to be damaged."""

    data: Path
    sales: list[Sale]
    receipts: list[Receipt]

    def compare(self) -> Report:
        return compare(self.data, sales=self.sales, receipts=self.receipts, once=True)

    def sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self.data / "pixie.db", isolation_level=None)) as db:
            assert db.execute(statement).rowcount > 0

    @property
    def files(self) -> list[Path]:
        return sorted((self.data / "storage" / "images").rglob("*.png"))

    @property
    def manifest(self) -> Path:
        return self.files[0].parent / "request.json"


@pytest.fixture
async def run(tmp_path: Path) -> Run:
    """Five mixed calls and one that fails upstream, in a proxy that is gone by now."""
    async with Studio(seed=1) as studio, run_proxy(tmp_path / "data", studio.base_url) as proxy:
        sdk = proxy.sdk()
        receipts = await asyncio.gather(*[place(sdk, order) for order in orders(5, seed=1)])
        await outside.settled(tmp_path / "data")
    return Run(tmp_path / "data", studio.sales, receipts)


def test_a_clean_run_has_no_violation(run: Run) -> None:
    """And its figures are the sums of the ledgers."""
    report = run.compare()
    report.assert_clean(1)
    images = sum(receipt.order.n for receipt in run.receipts)
    assert report.figures == {
        "calls": 5,
        "calls_that_got_their_images": 5,
        "charges": 5,
        "charges_per_call": 1.0,
        "images_sold": images,
        "images_received": images,
        "images_kept": images,
        "calls_done": 5,
    }


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewrite(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def spool(run: Run) -> None:
    left = run.data / "spool" / "dead"
    left.mkdir()
    (left / "0.part").touch()


DAMAGE: dict[str, tuple[Callable[[Run], object], set[str]]] = {
    "a file is gone": (
        lambda run: run.files[0].unlink(),
        {"row_without_object", "received_and_lost", "paid_and_lost"},
    ),
    "a bit has flipped": (
        lambda run: flip(run.files[0]),
        {"altered_object", "received_and_lost", "paid_and_lost"},
    ),
    "a row is gone": (
        lambda run: run.sql("DELETE FROM images WHERE id = (SELECT max(id) FROM images)"),
        {"object_without_row", "manifest_differs", "received_and_lost", "paid_and_lost"},
    ),
    "an image of a sale nobody received is not kept": (
        lambda run: run.sales.append(Sale(prompt=run.sales[0].prompt, images=("a",), sent=1)),
        {"paid_and_lost", "charged_twice", "not_in_ledger"},
    ),
    "a file that nobody knows": (
        lambda run: (run.files[0].parent / "9.png").write_bytes(b"?"),
        {"object_without_row"},
    ),
    "a manifest is gone": (lambda run: run.manifest.unlink(), {"manifest_differs"}),
    "a manifest has another cost": (
        lambda run: rewrite(run.manifest, cost_micros=1),
        {"manifest_differs"},
    ),
    "an image is kept twice": (
        lambda run: run.sql(
            "UPDATE images SET sha256 = (SELECT min(sha256) FROM images)"
            " WHERE id = (SELECT id FROM images WHERE sha256 > (SELECT min(sha256) FROM images) LIMIT 1)"
        ),
        {"kept_twice", "altered_object", "manifest_differs", "received_and_lost", "paid_and_lost"},
    ),
    "an image was never sold": (
        lambda run: run.sales.__setitem__(0, replace(run.sales[0], images=("x", "y"), sent=0)),
        {"never_sold", "wrong_image"},
    ),
    "an image is another user's": (
        lambda run: run.sql(
            "UPDATE images SET owner_id = (SELECT id FROM users WHERE name = 'carol')"
            " WHERE id = (SELECT min(id) FROM images)"
        ),
        {"wrong_owner"},
    ),
    "a caller got another's image": (
        lambda run: run.receipts[0].images.__setitem__(0, run.receipts[1].images[0]),
        {"wrong_image"},
    ),
    "success with an image missing": (lambda run: run.receipts[0].images.pop(), {"false_success"}),
    "charged twice": (
        lambda run: run.sales.append(replace(run.sales[0])),
        {"charged_twice", "not_in_ledger"},
    ),
    "a charged call is free": (
        lambda run: run.sql("UPDATE requests SET state = 'failed' WHERE id = (SELECT min(id) FROM requests)"),
        {"not_in_ledger"},
    ),
    "a call is still open": (
        lambda run: run.sql("UPDATE requests SET state = 'sent' WHERE id = (SELECT min(id) FROM requests)"),
        {"open_call", "not_in_ledger"},
    ),
    "a slot leaked": (
        lambda run: run.sql("UPDATE accounts SET in_flight = 1 WHERE spent_life_micros > 0"),
        {"slot_leaked"},
    ),
    "a hold leaked": (
        lambda run: run.sql("UPDATE accounts SET held_micros = 1 WHERE spent_life_micros > 0"),
        {"hold_leaked"},
    ),
    "a micro too much was spent": (
        lambda run: run.sql(
            "UPDATE accounts SET spent_life_micros = spent_life_micros + 1 WHERE spent_life_micros > 0"
        ),
        {"spent_differs"},
    ),
    "something is left in the spool": (spool, {"spool_left"}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_under_its_name(run: Run, damage: str) -> None:
    """Exactly the rules that it breaks are named, and the report says the seed."""
    harm, names = DAMAGE[damage]
    harm(run)
    report = run.compare()
    assert {violation.rule for violation in report.violations} == names
    with pytest.raises(AssertionError, match="seed 77"):
        report.assert_clean(77)


def test_a_call_that_failed_owes_nothing(run: Run) -> None:
    """Its error is told, so it is no false success, and no image is missing."""
    run.receipts.append(Receipt(order=Order(prompt="refused"), owner="bob", error="storage_full"))
    run.compare().assert_clean()


def test_after_a_kill_only_what_a_client_got_must_be_there(run: Run) -> None:
    """What was on its way may be lost; what was received may not."""
    run.sales.append(Sale(prompt="on its way", images=("a",), sent=1))
    run.receipts[0].images.append("b")
    report = compare(run.data, sales=run.sales, receipts=run.receipts, kills=True)
    assert "paid_and_lost" not in {violation.rule for violation in report.violations}
    assert "received_and_lost" in {violation.rule for violation in report.violations}
