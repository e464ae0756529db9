"""A call's row from admission to settlement."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from pixie_proxy.index import Index, Tx, ledger, users
from pixie_proxy.records import CallRecord, Settlement, State, new_id
from tests.support.postgres import INTEGRITY

USER = users.StoredUser(id=new_id("usr"), name="ann", role="member", created_us=1, limits={})


def call(**fields: object) -> CallRecord:
    basis = CallRecord(
        id=new_id("req"),
        user_id=USER.id,
        key_id="key_x",
        kind="generation",
        requested_model="best",
        model="gpt-image-2",
        prompt="a “fox”",
        params={"size": "1024x1024", "n": 2, "x": None},
        images_asked=2,
        is_stream=True,
        fingerprint="f1",
        idempotency_key=None,
        hold_micros=500,
        process="p1",
        created_us=1000,
    )
    return replace(basis, **fields)  # type: ignore[arg-type]


def settlement(of: CallRecord, state: State) -> Settlement:
    return Settlement(
        request_id=of.id,
        state=state,
        settled_us=2000,
        cost_micros=300,
        usage={"total_tokens": 7},
        skeleton=b'{"data":[]}',
        error="boom",
        upstream_request_id="up_1",
        flags=("not_kept",),
    )


@pytest.fixture(autouse=True)
async def somebody(index: Index) -> None:
    await index.write(lambda tx: users.add_user(tx, USER))


async def test_row_comes_back_as_it_was_written(index: Index) -> None:
    """Every field survives, JSON and bytes too, before and after the settlement."""
    one = call(idempotency_key="k")
    await index.write(lambda tx: ledger.insert(tx, one, "admitted"))
    row = await index.read(lambda tx: ledger.get(tx, one.id))
    assert row is not None
    assert (row.call, row.state, row.cost_micros, row.flags, row.skeleton) == (
        one,
        "admitted",
        None,
        (),
        None,
    )
    assert await index.write(lambda tx: ledger.settle(tx, settlement(one, "done")))
    row = await index.read(lambda tx: ledger.get(tx, one.id))
    assert row == ledger.LedgerRow(
        call=one,
        state="done",
        cost_micros=300,
        usage={"total_tokens": 7},
        skeleton=b'{"data":[]}',
        error="boom",
        upstream_request_id="up_1",
        flags=("not_kept",),
        settled_us=2000,
    )
    assert await index.read(lambda tx: ledger.get(tx, "req_none")) is None


@pytest.mark.parametrize("earlier", list(get_args(State)))
@pytest.mark.parametrize("later", ["done", "failed", "unknown"])
async def test_row_is_settled_once(index: Index, earlier: State, later: State) -> None:
    """Only an open row can be settled, and an unknown one when its images turned up after all."""
    one = call()

    def work(tx: Tx) -> bool:
        ledger.insert(tx, one, "sent" if earlier == "sent" else "admitted")
        if earlier not in {"admitted", "sent"}:
            assert ledger.settle(tx, settlement(one, earlier))
        assert ledger.charged_as_unknown(tx, one.id) == (300 if earlier == "unknown" else None)
        end = replace(settlement(one, later), cost_micros=1)
        return ledger.settle(tx, end) or (later == "done" and ledger.settle(tx, end, of="unknown"))

    changed = await index.write(work)
    row = await index.read(lambda tx: ledger.get(tx, one.id))
    assert changed == (earlier in {"admitted", "sent"} or (earlier, later) == ("unknown", "done"))
    assert row is not None
    assert (row.state, row.cost_micros) == ((later, 1) if changed else (earlier, 300))


async def test_open_calls_are_those_of_the_process(index: Index) -> None:
    """Recovery finds what its process left open, oldest first, and nothing else."""
    admitted, sent, done, foreign = call(), call(), call(), call(process="p2")

    def work(tx: Tx) -> None:
        for each in (admitted, sent, done, foreign):
            ledger.insert(tx, each, "sent" if each is sent else "admitted")
        ledger.settle(tx, settlement(done, "done"))

    await index.write(work)
    rows = await index.read(lambda tx: ledger.open_calls(tx, "p1"))
    assert [(row.call.id, row.state) for row in rows] == [(admitted.id, "admitted"), (sent.id, "sent")]


async def test_idempotency_key_stands_in_one_row(index: Index) -> None:
    """A second row of the same user and kind is refused until the first lets go; another kind is another key."""
    first, second = call(idempotency_key="k"), call(idempotency_key="k")
    await index.write(lambda tx: ledger.insert(tx, first, "sent"))
    await index.write(lambda tx: ledger.insert(tx, call(idempotency_key="k", kind="edit"), "sent"))
    with pytest.raises(INTEGRITY):
        await index.write(lambda tx: ledger.insert(tx, second, "sent"))
    found = await index.read(lambda tx: ledger.find_by_idempotency_key(tx, USER.id, "generation", "k"))
    assert found is not None
    assert found.call == first
    await index.write(lambda tx: ledger.free_idempotency_key(tx, USER.id, "generation", "k"))
    await index.write(lambda tx: ledger.insert(tx, second, "sent"))
