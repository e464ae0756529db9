"""The checker: four ledgers that must agree after any run, whatever was cut, killed or filled up in it.

What the upstream sold (`Studio.sales`), what callers received (`Receipt`), what storage holds and what the index says.
The last two are read from the data directory, so the proxy may run in this process, in another, or not at all.

    report = compare(data_dir, sales=studio.sales, receipts=receipts, once=True)
    report.assert_clean(seed)
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixie_proxy.records import accounts_of
from tests.support import outside
from tests.support.callers import Receipt
from tests.support.studio import Sale

_NOT_IMAGES = {"request.json", "state.json"}
_OPEN = {"admitted", "sent"}


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise: its name, and where."""

    rule: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a comparison found; `figures` are the sums of all ledgers."""

    violations: list[Violation]
    figures: dict[str, int | float]

    def assert_clean(self, seed: int | None = None) -> None:
        """Fail with every violation, and with the seed that makes them again."""
        lines = [f"{found.rule}: {found.detail}" for found in self.violations[:20]]
        more = len(self.violations) - len(lines)
        assert not self.violations, "\n".join(
            [f"{len(self.violations)} violations, seed {seed}, {self.figures}", *lines]
            + ([f"... and {more} more"] if more else [])
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ledgers:
    sales: Sequence[Sale]
    receipts: Sequence[Receipt]
    stored: dict[str, str]
    """SHA-256 of each image file by its ref."""
    manifests: dict[str, dict[str, Any]]
    """`request.json` by request id."""
    images: list[dict[str, Any]]
    requests: list[dict[str, Any]]
    accounts: list[dict[str, Any]]
    spooled: list[Path]


def compare(
    data_dir: Path,
    *,
    sales: Sequence[Sale] = (),
    receipts: Sequence[Receipt] = (),
    once: bool = False,
    kills: bool = False,
    others: Sequence[Path] = (),
) -> Report:
    """Compare the ledgers of a proxy at rest (see `outside.settled`).

    `once`: no prompt may be charged twice. `kills`: the proxy died in the run, or its upstream was cut off, so an image
    that was sent may have been on its way; what a client got whole must be kept all the same.
    `others`: data directories of the other hosts on the same index and storage, of which each has a spool.
    """
    ledgers = _read(data_dir, others, sales, receipts)
    rules = [*_RULES, *([_charged_twice] if once else []), *([] if kills else [_paid_and_lost])]
    return Report(
        violations=[
            Violation(rule.__name__.strip("_"), detail) for rule in rules for detail in rule(ledgers)
        ],
        figures=_figures(ledgers),
    )


def _read(
    data_dir: Path, others: Sequence[Path], sales: Sequence[Sale], receipts: Sequence[Receipt]
) -> _Ledgers:
    root = data_dir / "storage"
    files = [path for path in (root / "images").rglob("*") if path.is_file()]
    return _Ledgers(
        sales=sales,
        receipts=receipts,
        stored={
            path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if path.name not in _NOT_IMAGES
        },
        manifests={
            path.parent.name: json.loads(path.read_text()) for path in files if path.name == "request.json"
        },
        images=outside.rows(
            data_dir,
            "SELECT images.*, users.name AS owner FROM images JOIN users ON users.id = owner_id ORDER BY images.id",
        ),
        requests=outside.rows(
            data_dir,
            "SELECT id, user_id, key_id, prompt, state, cost_micros, flags FROM requests ORDER BY id",
        ),
        accounts=outside.rows(data_dir, "SELECT * FROM accounts"),
        spooled=[path for each in (data_dir, *others) for path in outside.spooled(each)],
    )


def _figures(ledgers: _Ledgers) -> dict[str, int | float]:
    calls, charges = len({receipt.order.prompt for receipt in ledgers.receipts}), len(ledgers.sales)
    states = Counter(str(row["state"]) for row in ledgers.requests)
    return {
        "calls": calls,
        "calls_that_got_their_images": sum(receipt.error is None for receipt in ledgers.receipts),
        "charges": charges,
        **({"charges_per_call": round(charges / calls, 4)} if calls else {}),
        "images_sold": sum(len(sale.images) for sale in ledgers.sales),
        "images_received": sum(len(receipt.images) for receipt in ledgers.receipts),
        "images_kept": len(ledgers.images),
        **{f"calls_{state}": count for state, count in sorted(states.items())},
    }


# --- Client and storage -----------------------------------------------------------------------------------------------


def _received_and_lost(ledgers: _Ledgers) -> Iterator[str]:
    """An image that a client has whole is in index and storage, byte for byte."""
    kept = _kept(ledgers)
    for receipt in ledgers.receipts:
        for image in receipt.images:
            if image not in kept:
                yield f"{receipt.order.prompt}: {image}"


def _paid_and_lost(ledgers: _Ledgers) -> Iterator[str]:
    """So is an image that the upstream has sent whole, whether or not somebody got it."""
    kept = _kept(ledgers)
    for sale in ledgers.sales:
        for image in sale.images[: sale.sent]:
            if image not in kept:
                yield f"{sale.prompt}: {image}"


def _kept(ledgers: _Ledgers) -> set[str]:
    return {row["sha256"] for row in ledgers.images if ledgers.stored.get(row["ref"]) == row["sha256"]}


def _wrong_image(ledgers: _Ledgers) -> Iterator[str]:
    """A caller gets what was painted for its own call, all of it of one sale and in its order."""
    sold: dict[str, list[tuple[str, ...]]] = {}
    for sale in ledgers.sales:
        sold.setdefault(sale.prompt, []).append(sale.images)
    for receipt in ledgers.receipts:
        count = len(receipt.images)
        if not any(
            images[:count] == tuple(receipt.images) for images in sold.get(receipt.order.prompt, [()])
        ):
            yield f"{receipt.order.prompt} got {receipt.images}"


def _false_success(ledgers: _Ledgers) -> Iterator[str]:
    """A call that ended without an error brought as many images as were asked for."""
    for receipt in ledgers.receipts:
        if receipt.error is None and len(receipt.images) != receipt.order.n:
            yield f"{receipt.order.prompt}: {len(receipt.images)} of {receipt.order.n} images"


# --- Storage and index ------------------------------------------------------------------------------------------------


def _object_without_row(ledgers: _Ledgers) -> Iterator[str]:
    """Every file in storage is an image that the index knows."""
    yield from sorted(ledgers.stored.keys() - {row["ref"] for row in ledgers.images})


def _row_without_object(ledgers: _Ledgers) -> Iterator[str]:
    """Every image of the index is in storage."""
    yield from sorted({row["ref"] for row in ledgers.images} - ledgers.stored.keys())


def _altered_object(ledgers: _Ledgers) -> Iterator[str]:
    """And has the bytes that the index says."""
    for row in ledgers.images:
        if ledgers.stored.get(row["ref"], row["sha256"]) != row["sha256"]:
            yield str(row["ref"])


def _manifest_differs(ledgers: _Ledgers) -> Iterator[str]:
    """Beside the images lies what index and bill can be rebuilt from."""
    rows: dict[str, dict[str, str]] = {}
    for row in ledgers.images:
        rows.setdefault(row["request_id"], {})[row["id"]] = row["sha256"]
    costs = {row["id"]: row["cost_micros"] for row in ledgers.requests}
    for request_id in sorted(rows.keys() | ledgers.manifests.keys()):
        said = ledgers.manifests.get(request_id)
        if said is None:
            yield f"{request_id} has none"
        elif {image["id"]: image["sha256"] for image in said["images"]} != rows.get(request_id):
            yield f"{request_id}: other images"
        elif said["cost_micros"] != costs.get(request_id):
            yield f"{request_id}: {said['cost_micros']} is not {costs.get(request_id)}"


def _kept_twice(ledgers: _Ledgers) -> Iterator[str]:
    """No image is kept more than once."""
    for image, count in Counter(row["sha256"] for row in ledgers.images).items():
        if count > 1:
            yield f"{image}: {count} times"


def _never_sold(ledgers: _Ledgers) -> Iterator[str]:
    """Where the upstream's ledger is there, nothing is kept that is not in it."""
    sold = {image for sale in ledgers.sales for image in sale.images}
    for row in ledgers.images:
        if ledgers.sales and row["sha256"] not in sold:
            yield str(row["ref"])


def _wrong_owner(ledgers: _Ledgers) -> Iterator[str]:
    """An image belongs to whoever's call brought it."""
    owners = {image: receipt.owner for receipt in ledgers.receipts for image in receipt.images}
    for row in ledgers.images:
        if row["owner"] != owners.get(row["sha256"], row["owner"]):
            yield f"{row['ref']} is {row['owner']}'s"


# --- Money and slots --------------------------------------------------------------------------------------------------


def _charged_twice(ledgers: _Ledgers) -> Iterator[str]:
    """One logical call is at most one sale."""
    for prompt, count in Counter(sale.prompt for sale in ledgers.sales).items():
        if count > 1:
            yield f"{prompt}: {count} times"


def _not_in_ledger(ledgers: _Ledgers) -> Iterator[str]:
    """Every sale has a row, and none of a failed call: what was charged is not given away."""
    rows = Counter(row["prompt"] for row in ledgers.requests if row["state"] in {"done", "unknown"})
    for prompt, count in Counter(sale.prompt for sale in ledgers.sales).items():
        if rows[prompt] < count:
            yield f"{prompt}: {count} charged, {rows[prompt]} in the ledger"


def _open_call(ledgers: _Ledgers) -> Iterator[str]:
    """At rest no call is under way."""
    for row in ledgers.requests:
        if row["state"] in _OPEN:
            yield f"{row['id']} is {row['state']}"


def _slot_leaked(ledgers: _Ledgers) -> Iterator[str]:
    """Nobody's slot is in use."""
    for account in ledgers.accounts:
        if account["in_flight"]:
            yield f"{account['subject']}: {account['in_flight']}"


def _hold_leaked(ledgers: _Ledgers) -> Iterator[str]:
    """Nobody's money is held."""
    for account in ledgers.accounts:
        if account["held_micros"]:
            yield f"{account['subject']}: {account['held_micros']}"


def _spent_differs(ledgers: _Ledgers) -> Iterator[str]:
    """What team, users and keys have spent is what the calls cost, to the micro."""
    costs: Counter[str] = Counter()
    for row in ledgers.requests:
        for subject in accounts_of(row["user_id"], row["key_id"]):
            costs[subject] += row["cost_micros"] or 0
    spent = {account["subject"]: account["spent_life_micros"] for account in ledgers.accounts}
    for subject in sorted(costs.keys() | spent.keys()):
        if spent.get(subject, 0) != costs[subject]:
            yield f"{subject}: {spent.get(subject, 0)} spent, {costs[subject]} in the ledger"


def _spool_left(ledgers: _Ledgers) -> Iterator[str]:
    """The spool is empty."""
    for path in ledgers.spooled:
        yield "/".join(path.parts[-3:])


_RULES: list[Callable[[_Ledgers], Iterator[str]]] = [
    _received_and_lost,
    _wrong_image,
    _false_success,
    _object_without_row,
    _row_without_object,
    _altered_object,
    _manifest_differs,
    _kept_twice,
    _never_sold,
    _wrong_owner,
    _not_in_ledger,
    _open_call,
    _slot_leaked,
    _hold_leaked,
    _spent_differs,
    _spool_left,
]
