"""The join rule, at each of its borders: what is one call asked for again, and what are two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pixie_proxy.errors import IdempotencyKeyReused, NotFound, ProxyError
from pixie_proxy.index import Tx, deliveries, images, ledger, refusals, trash, users
from pixie_proxy.index.sqlite import SqliteIndex, open_sqlite
from pixie_proxy.records import CallRecord, State, StoredImage, new_id
from pixie_proxy.relay import join
from pixie_proxy.relay.join import Attempt, Fresh, Joined
from tests.support.calls import ANN, a_call, an_end

S = 1_000_000
NOW = 1_795_000_000 * S


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[SqliteIndex]:
    opened = await open_sqlite(tmp_path / "pixie.db", lock_path=tmp_path / "pixie.lock")
    await opened.write(lambda tx: users.add_user(tx, ANN))
    yield opened
    await opened.close()


def try_(count: int | None = 0, body_bytes: int = 7) -> Attempt:
    return Attempt.of(ANN.id, "generation", body_bytes, count)


def call(at_us: int = NOW, **fields: Any) -> CallRecord:
    return a_call(id=new_id("req"), created_us=at_us, **fields)


async def asks(index: SqliteIndex, count: int | None = 0, at_us: int = NOW, **fields: Any) -> str | None:
    """Ask once more; give the id of the call that is joined, None if this one is new. A new one is admitted."""
    asked, attempt = call(at_us, **fields), try_(count)

    def work(tx: Tx) -> Joined | Fresh | ProxyError:
        found = join.look(tx, asked, attempt)
        if isinstance(found, Fresh):
            if asked.idempotency_key is not None:
                ledger.free_idempotency_key(tx, ANN.id, "generation", asked.idempotency_key)
            ledger.insert(tx, asked, "sent")
            join.attach(tx, asked, attempt)
        return found

    found = await index.write(work)
    if isinstance(found, ProxyError):
        raise found
    return found.row.call.id if isinstance(found, Joined) else None


async def made(index: SqliteIndex, count: int | None = 0, at_us: int = NOW, **fields: Any) -> CallRecord:
    """Let a call run whose client still waits."""
    one = call(at_us, **fields)

    def work(tx: Tx) -> None:
        ledger.insert(tx, one, "sent")
        join.attach(tx, one, try_(count))

    await index.write(work)
    return one


async def left(index: SqliteIndex, one: CallRecord, at_us: int = NOW) -> None:
    await index.write(lambda tx: deliveries.leave(tx, one.id, one.fingerprint, one.process, at_us))


async def delivered(index: SqliteIndex, one: CallRecord, at_us: int = NOW) -> None:
    await index.write(lambda tx: deliveries.deliver(tx, one.id, one.fingerprint, one.process, at_us))


async def settled(index: SqliteIndex, one: CallRecord, state: State = "done") -> str:
    """End a call with one image; give that image's id."""
    image = StoredImage(
        id=new_id("img"),
        position=0,
        file="0.png",
        mime="image/png",
        size_bytes=1,
        sha256="x",
        width=1,
        height=1,
    )

    def work(tx: Tx) -> None:
        ledger.settle(tx, replace(an_end(one, state), skeleton=b"s" if state == "done" else None))
        images.insert(
            tx,
            [image],
            request_id=one.id,
            owner_id=ANN.id,
            folder="f",
            kind="generation",
            model="m",
            visibility="team",
            created_us=1,
        )

    await index.write(work)
    return image.id


@pytest.mark.parametrize("count", [None, 0, 1])
async def test_a_call_whose_client_waits_is_never_joined(index: SqliteIndex, count: int | None) -> None:
    """Two equal calls at once are two."""
    await made(index)
    assert await asks(index, count) is None


@pytest.mark.parametrize("count", [None, 0, 1, 2])
@pytest.mark.parametrize(("later_us", "is_joined"), [(0, True), (900 * S, True), (900 * S + 1, False)])
async def test_a_lost_answer_is_taken_over_by_any_equal_call(
    index: SqliteIndex, count: int | None, later_us: int, is_joined: bool
) -> None:
    """Within 15 minutes of its client's leaving; by one of them."""
    one = await made(index, at_us=NOW - 3600 * S)
    await left(index, one)
    assert await asks(index, count, NOW + later_us) == (one.id if is_joined else None)
    assert await asks(index, count, NOW + later_us) is None


async def test_who_takes_over_and_leaves_can_be_followed(index: SqliteIndex) -> None:
    """The answer is still to be had, by the next one."""
    one = await made(index)
    for count in (1, 2):
        await left(index, one)
        assert await asks(index, count) == one.id


@pytest.mark.parametrize(
    ("first", "count", "later_us", "is_joined"),
    [
        (0, 1, 10 * S, True),
        (1, 2, 10 * S, True),
        (0, 1, 10 * S + 1, False),
        (0, 0, 0, False),
        (0, 2, 0, False),
        (1, 1, 0, False),
        (None, 1, 0, False),
        (0, None, 0, False),
    ],
)
async def test_a_delivered_answer_is_taken_over_by_the_very_next_try(
    index: SqliteIndex, first: int | None, count: int | None, later_us: int, is_joined: bool
) -> None:
    """Within 10 seconds, for the answer may have been lost behind us; never by a call that is no retry of it."""
    one = await made(index, first)
    await delivered(index, one)
    assert await asks(index, count, NOW + later_us) == (one.id if is_joined else None)


async def test_another_fingerprint_is_another_call(index: SqliteIndex) -> None:
    """However much else is the same."""
    one = await made(index)
    await left(index, one)
    assert await asks(index, 1, fingerprint="g") is None


async def test_twenty_losses_and_twenty_retries_pair_up(index: SqliteIndex) -> None:
    """One to one, oldest first, and the twenty-first is new."""
    lost = [await made(index) for _ in range(20)]
    for one in lost:
        await left(index, one)
    assert [await asks(index, 1) for _ in range(21)] == [*[one.id for one in lost], None]


@pytest.mark.parametrize("state", ["done", "unknown", "failed"])
async def test_what_failed_is_free_and_so_is_asked_for_again(index: SqliteIndex, state: State) -> None:
    """An answer, or the word that none is known, is given again; a failure is not."""
    one = await made(index)
    await settled(index, one, state)
    await left(index, one)
    assert await asks(index, 1) == (None if state == "failed" else one.id)


@pytest.mark.parametrize("how", ["trash", "purge"])
async def test_deleted_images_are_not_given_again(index: SqliteIndex, how: str) -> None:
    """A lost answer is forgotten with them; under a key its owner hears so, and buys nothing unasked."""
    lost, keyed = await made(index), await made(index, idempotency_key="k")
    for one in (lost, keyed):
        image_id = await settled(index, one)
        await index.write(lambda tx, image_id=image_id: images.delete(tx, image_id, 5))  # type: ignore[misc]
    if how == "purge":
        assert len(await index.write(lambda tx: trash.purge(tx, 6, 9))) == 2
    await left(index, lost)
    assert await asks(index, 1) is None
    with pytest.raises(NotFound) as caught:
        await asks(index, 1, idempotency_key="k")
    assert caught.value.headers == {"x-should-retry": "false"}


@pytest.mark.parametrize("count", [None, 0, 1])
@pytest.mark.parametrize("state", ["sent", "done", "unknown", "failed"])
async def test_a_key_is_joined_by_any_number(index: SqliteIndex, state: State, count: int | None) -> None:
    """Whether or not somebody waits or has got the answer; one that failed gives its key to the next call."""
    one = await made(index, idempotency_key="k")
    if state != "sent":
        await settled(index, one, state)
    for _ in range(3):
        joined = await asks(index, count, idempotency_key="k")
        if state == "failed":
            assert joined != one.id
            return
        assert joined == one.id


@pytest.mark.parametrize(("later_us", "is_ours"), [(24 * 3600 * S - 1, True), (24 * 3600 * S, False)])
async def test_a_key_is_free_after_a_day(index: SqliteIndex, later_us: int, is_ours: bool) -> None:
    """Before, it brings its call back, and another request may not use it."""
    one = await made(index, idempotency_key="k")
    if is_ours:
        with pytest.raises(IdempotencyKeyReused):
            await asks(index, at_us=NOW + later_us, idempotency_key="k", fingerprint="g")
        assert await asks(index, at_us=NOW + later_us, idempotency_key="k") == one.id
    else:
        assert await asks(index, at_us=NOW + later_us, idempotency_key="k", fingerprint="g") is None


async def test_calls_with_and_without_a_key_do_not_meet(index: SqliteIndex) -> None:
    """A key says which call is meant: nothing else is guessed."""
    keyed, bare = await made(index, idempotency_key="k"), await made(index)
    await left(index, keyed)
    assert await asks(index, 1) is None
    await left(index, bare)
    assert await asks(index, 1, idempotency_key="other") is None
    assert await asks(index, 1, idempotency_key="k", kind="edit") is None


async def refuse(index: SqliteIndex, count: int | None, at_us: int = NOW, **fields: Any) -> Any:
    """Look for a call, find none, and refuse it; give what was found."""
    asked, attempt = call(at_us, **fields), try_(count)

    def work(tx: Tx) -> Joined | Fresh | ProxyError:
        found = join.look(tx, asked, attempt)
        if isinstance(found, Fresh):
            join.remember_refusal(tx, asked, attempt, found)
        return found

    return await index.write(work)


async def refuse_early(index: SqliteIndex, count: int | None, at_us: int = NOW) -> None:
    await index.write(lambda tx: join.remember_early_refusal(tx, new_id("req"), try_(count), at_us))


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(("later_us", "is_joined"), [(0, False), (120 * S, False), (120 * S + 1, True)])
async def test_a_retry_of_what_we_refused_is_new(
    index: SqliteIndex, early: bool, later_us: int, is_joined: bool
) -> None:
    """It does not take over an equal call that was just served; each refusal stands for one retry."""
    one = await made(index)
    await (refuse_early(index, 0) if early else refuse(index, 0))
    await delivered(index, one, NOW + later_us)
    assert await asks(index, 1, NOW + later_us) == (one.id if is_joined else None)
    assert await asks(index, 1, NOW + later_us) == (None if is_joined else one.id)


async def test_a_lost_answer_goes_to_a_retry_before_a_refusal_that_may_be_another_calls(
    index: SqliteIndex,
) -> None:
    """Refused early, only the length of the body is known; refused at the gate, it is the very call."""
    first, second = await made(index), await made(index)
    await refuse_early(index, 0)
    await left(index, first)
    assert await asks(index, 1) == first.id
    assert await asks(index, 1) is None
    await refuse(index, 0)
    await left(index, second)
    assert await asks(index, 1) is None
    assert await asks(index, 1) == second.id


@pytest.mark.parametrize("early", [False, True])
async def test_only_a_chain_of_refusals_counts(index: SqliteIndex, early: bool) -> None:
    """If the second try was refused while the first one runs, the third still finds the first."""
    one = await made(index)
    await (refuse_early(index, 1) if early else refuse(index, 1))
    await delivered(index, await made(index, 1))
    await left(index, one)
    assert await asks(index, 2) == one.id
    for count in (0, 1):
        await (refuse_early(index, count) if early else refuse(index, count))
    assert await asks(index, 2) is None


@pytest.mark.parametrize("order", [(False, True), (True, False)])
async def test_a_chain_may_be_refused_early_and_late(index: SqliteIndex, order: tuple[bool, bool]) -> None:
    """At the gate, and before the body was read."""
    for count, early in enumerate(order):
        await (refuse_early(index, count) if early else refuse(index, count))
    await delivered(index, await made(index, 1))
    assert await asks(index, 2) is None
    assert await asks(index, 2) is not None


async def test_a_retry_of_what_the_upstream_refused_is_new(index: SqliteIndex) -> None:
    """Of two equal calls one was served, and one refused: the retry is the refused one's."""
    served, failed = await made(index), await made(index)
    await settled(index, failed, "failed")
    await delivered(index, served)
    await index.write(lambda tx: join.remember_failure(tx, failed, try_(0), NOW))
    assert await asks(index, 1) is None
    assert await asks(index, 1) == served.id


async def test_who_does_not_count_leaves_no_refusal_behind(index: SqliteIndex) -> None:
    """Nobody could claim it."""
    await refuse(index, None)
    await refuse_early(index, None)
    assert not await index.read(refusals.has_any)


async def test_what_is_old_is_swept(index: SqliteIndex) -> None:
    """What nobody can join any more goes; what somebody waits for stays, however old."""
    waits, lost, had = [await made(index) for _ in range(3)]
    await refuse(index, 0, at_us=10)
    await left(index, lost, 10)
    await delivered(index, had, 10)
    gone = await index.write(lambda tx: deliveries.sweep(tx, left_before_us=11, delivered_before_us=11))
    assert (gone, await index.write(lambda tx: refusals.sweep(tx, 11))) == (2, 1)
    assert await index.read(deliveries.attached_processes) == [waits.process]


async def test_a_dead_process_leaves_its_answers_to_be_taken_over(index: SqliteIndex) -> None:
    """Its clients were cut off; those of others still wait."""
    mine, other = await made(index), await made(index, process="p2")
    assert await index.write(lambda tx: deliveries.leave_all(tx, "p1", NOW)) == 1
    assert await asks(index, 1) == mine.id
    assert await asks(index, 1) is None
    assert other.process in await index.read(lambda tx: deliveries.attached_processes(tx, "f"))
