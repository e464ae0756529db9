"""The join rule: whether a call is one that we have already, asked for again. It works on the index only.

A retry that finds its call joins it, and costs nothing; two equal calls made on purpose stay two. An `Idempotency-Key`
says it outright. Without one a call is found by its fingerprint, and only if its answer was lost: its client left
before the whole answer was handed over, or has just got it and asks again as SDKs do (`x-stainless-retry-count`).
"""

from __future__ import annotations

from dataclasses import dataclass

from pixie_proxy.errors import IdempotencyKeyReused, NotFound, ProxyError
from pixie_proxy.index import Tx, deliveries, images, ledger, refusals
from pixie_proxy.index.ledger import LedgerRow
from pixie_proxy.index.refusals import Refused
from pixie_proxy.records import CallRecord, ImageRecord, Kind

_S = 1_000_000

KEY_WINDOW_US = 24 * 3600 * _S
"""How long an `Idempotency-Key` belongs to its first request."""

LEFT_WINDOW_US = 15 * 60 * _S
"""How long after its client left an answer may be taken over."""

DELIVERED_WINDOW_US = 10 * _S
"""How long after it was handed over an answer may still have been lost on its way: the SDKs' longest pause is 8 s."""

REFUSED_WINDOW_US = 120 * _S
"""How long a refused attempt is remembered: twice the longest `retry-after`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a client's. `retry_count`: the tries before it, None if its SDK does not tell.

    `shape` is all that is known of the call before its body is read.
    """

    retry_count: int | None
    shape: str

    @classmethod
    def of(cls, user_id: str, kind: Kind, body_bytes: int | None, retry_count: int | None) -> Attempt:
        """Describe a try by what its headers say; an SDK's retries have bodies of one length."""
        return cls(retry_count=retry_count, shape=f"{user_id} {kind} {body_bytes}")

    @property
    def is_retry(self) -> bool:
        """Whether the client has asked this before."""
        return bool(self.retry_count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The call that this one is, asked for again, with its images if it has ended."""

    row: LedgerRow
    images: tuple[ImageRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """There is nothing to join. `refused` is the earlier attempt of this call that was refused, if there was one."""

    refused: Refused | None = None


def look(tx: Tx, call: CallRecord, attempt: Attempt) -> Joined | Fresh | ProxyError:
    """Find the call that this one repeats, and take it over. The account must be locked: each is taken over once."""
    if call.idempotency_key is not None:
        return _by_key(tx, call, call.idempotency_key)
    return _by_fingerprint(tx, call, attempt)


def attach(tx: Tx, call: CallRecord, attempt: Attempt) -> None:
    """Note that a client waits for a new call: should it leave, a retry may take the call over."""
    if call.idempotency_key is None:
        deliveries.attach(tx, call.id, call.fingerprint, call.process, attempt.retry_count)


def remember_refusal(tx: Tx, call: CallRecord, attempt: Attempt, fresh: Fresh) -> None:
    """Note that we refused this attempt, so that the next one is new.

    Of a retry only if the attempt before it was refused as well: else an earlier one may run, and is to be found.
    """
    if attempt.retry_count is None or call.idempotency_key is not None:
        return
    if attempt.retry_count == 0 or fresh.refused is not None:
        _remember(tx, call.id, attempt.shape, attempt.retry_count, call.fingerprint, call.created_us)


def remember_early_refusal(tx: Tx, request_id: str, attempt: Attempt, at_us: int) -> None:
    """Note that we refused this attempt before we read what it said."""
    if attempt.retry_count is None:
        return
    if attempt.retry_count > 0:
        earlier = refusals.find(
            tx, shape=attempt.shape, retry_count=attempt.retry_count - 1, since_us=at_us - REFUSED_WINDOW_US
        )
        if earlier is None:
            return
        refusals.forget(tx, earlier)
    _remember(tx, request_id, attempt.shape, attempt.retry_count, None, at_us)


def remember_failure(tx: Tx, call: CallRecord, attempt: Attempt, at_us: int) -> None:
    """Note that the upstream refused this attempt, and its client heard so: the next one is new."""
    if call.idempotency_key is None:
        deliveries.forget(tx, call.id, call.fingerprint)
        if attempt.retry_count is not None:
            _remember(tx, call.id, attempt.shape, attempt.retry_count, call.fingerprint, at_us)


def found(tx: Tx, row: LedgerRow) -> Joined | ProxyError:
    """Describe a call to join as it is now; NotFound if its images were deleted: they are not made again unasked."""
    kept = tuple(images.of_request(tx, row.call.id)) if row.state == "done" else ()
    if row.state == "done" and (row.skeleton is None or any(image.deleted_us is not None for image in kept)):
        message = (
            "The images of this request were deleted, so its answer can't be given again. "
            "For new images send it with a new Idempotency-Key."
        )
        return NotFound(message, headers={"x-should-retry": "false"})
    return Joined(row=row, images=kept)


def _by_key(tx: Tx, call: CallRecord, key: str) -> Joined | Fresh | ProxyError:
    row = ledger.find_by_idempotency_key(tx, call.user_id, call.kind, key)
    if row is None or call.created_us - row.call.created_us >= KEY_WINDOW_US:
        return Fresh()
    if row.call.fingerprint != call.fingerprint:
        message = "This Idempotency-Key was used for another request. Use a new key for a new request."
        return IdempotencyKeyReused(message, param="Idempotency-Key")
    return Fresh() if row.state == "failed" else found(tx, row)


def _by_fingerprint(tx: Tx, call: CallRecord, attempt: Attempt) -> Joined | Fresh | ProxyError:
    """Match a retry first to an attempt that was refused, then to a lost answer, and then to one just handed over.

    What is only known to have had a body of this length stands behind the lost answers: it may be another call's.
    """
    count, now_us = attempt.retry_count, call.created_us
    refused: Refused | None = None
    if count:
        refused = refusals.find(
            tx,
            shape=attempt.shape,
            retry_count=count - 1,
            since_us=now_us - REFUSED_WINDOW_US,
            fingerprint=call.fingerprint,
        )
    claimed: str | None = None
    if refused is None or not refused.is_exact:
        claimed = deliveries.claim_left(
            tx, call.fingerprint, call.process, count, since_us=now_us - LEFT_WINDOW_US
        )
        if claimed is None and refused is None and count:
            claimed = deliveries.claim_delivered(
                tx, call.fingerprint, call.process, count, since_us=now_us - DELIVERED_WINDOW_US
            )
    if claimed is not None and (row := ledger.get(tx, claimed)) is not None:
        return found(tx, row)
    if refused is not None:
        refusals.forget(tx, refused)
    return Fresh(refused=refused)


def _remember(
    tx: Tx, request_id: str, shape: str, retry_count: int, fingerprint: str | None, at_us: int
) -> None:
    refusals.remember(
        tx, request_id, shape=shape, retry_count=retry_count, fingerprint=fingerprint, at_us=at_us
    )
