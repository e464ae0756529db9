"""Join, admit, record: what becomes of a call, in one transaction that locks the accounts it moves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pixie_proxy.admission import gate
from pixie_proxy.admission.gate import Admitted
from pixie_proxy.errors import InvalidApiKey, ProxyError
from pixie_proxy.generation.quoting import Quote
from pixie_proxy.index import Index, Tx, erasure, lineage
from pixie_proxy.records import CallRecord, Party, User
from pixie_proxy.relay import inputs, join
from pixie_proxy.relay.join import Attempt, Joined
from pixie_proxy.relay.request import ImageRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A call on its way in. `uploads` is the folder of its input files."""

    request: ImageRequest
    owner: User
    attempt: Attempt
    request_id: str
    idempotency_key: str | None
    uploads: Path | None


async def find_parents(index: Index, asked: Asked) -> tuple[str, ...]:
    """Find which of the images that a call is to edit are ours, and its caller's to see. Raises IndexUnavailable."""
    if asked.request.kind == "generation":
        return ()
    digests = await asyncio.to_thread(inputs.digests, asked.request)
    return await index.read(lambda tx: lineage.find(tx, asked.owner, digests)) if digests else ()


def record(
    asked: Asked, quote: Quote, process: str, now_us: int, parents: tuple[str, ...] = ()
) -> CallRecord:
    """Write down a call as it is sent: what its ledger row will say if it is a new one."""
    request = quote.asked
    return CallRecord(
        id=asked.request_id,
        user_id=asked.owner.id,
        key_id=asked.owner.key_id,
        kind=request.kind,
        requested_model=request.model,
        model=quote.model,
        prompt=request.prompt,
        params=request.params(),
        images_asked=request.n,
        is_stream=request.is_stream,
        fingerprint=request.fingerprint(asked.owner.id, quote.model),
        idempotency_key=asked.idempotency_key,
        hold_micros=quote.ceiling.micros,
        process=process,
        created_us=now_us,
        parents=parents,
    )


def enter(
    tx: Tx,
    call: CallRecord,
    attempt: Attempt,
    parties: Sequence[Party],
    barred: ProxyError | None,
    hint: str,
) -> Admitted | tuple[Joined, Admitted] | ProxyError:
    """Find the call that this one repeats, or admit it as a new one; or give the refusal.

    `barred` is why new calls can't be taken now, `hint` how this one would hold less money. A join takes nothing, so
    nothing stands in its way.
    """
    opened = gate.open_accounts(tx, parties, call.created_us)
    if erasure.is_deleted(tx, call.user_id):  # since it was let in: nothing of it may be written any more
        return InvalidApiKey("The user of this key was deleted.")
    earlier = join.look(tx, call, attempt)
    if isinstance(earlier, ProxyError):
        return earlier
    if isinstance(earlier, Joined):
        return earlier, gate.standing(opened, call.created_us)
    admitted = barred or gate.admit(tx, opened, call, now_us=call.created_us, hint=hint)
    if isinstance(admitted, Admitted):
        join.attach(tx, call, attempt)
    elif is_refusal(admitted):
        join.remember_refusal(tx, call, attempt, earlier)
    return admitted


def is_refusal(error: ProxyError) -> bool:
    """Whether a client is to come back with the same call later."""
    return error.status in {429, 503} and error.headers.get("x-should-retry") != "false"
