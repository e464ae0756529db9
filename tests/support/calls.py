"""Calls as the ledger and the spool know them, made up for tests."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from pixie_proxy.admission import gate
from pixie_proxy.index import Index, Tx, users
from pixie_proxy.index.users import StoredUser
from pixie_proxy.records import NO_LIMITS, CallRecord, Party, Settlement, State, StoredImage, new_id
from pixie_proxy.spool.manifest import Manifest

ANN = StoredUser(id=new_id("usr"), name="ann", role="member", created_us=1, limits={})


def a_call(**fields: object) -> CallRecord:
    """Make a call of ann's."""
    basis = CallRecord(
        id=new_id("req"),
        user_id=ANN.id,
        key_id=None,
        kind="generation",
        requested_model="best",
        model="gpt-image-2",
        prompt="a “fox”\u2028",
        params={"size": "1024x1024", "n": 2, "x": None},
        images_asked=2,
        is_stream=False,
        fingerprint="f",
        idempotency_key=None,
        hold_micros=500,
        process="p1",
        created_us=1_795_000_000_000_000,
    )
    return replace(basis, **fields)  # type: ignore[arg-type]


def a_picture(data: bytes, position: int = 0, **fields: object) -> StoredImage:
    """Describe a PNG as its manifest does."""
    basis = StoredImage(
        id=new_id("img"),
        position=position,
        file=f"{position}.png",
        mime="image/png",
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        width=8,
        height=8,
    )
    return replace(basis, **fields)  # type: ignore[arg-type]


def an_end(call: CallRecord, state: State = "done", **fields: object) -> Settlement:
    """Settle a call."""
    basis = Settlement(
        request_id=call.id,
        state=state,
        settled_us=1_795_000_001_000_000,
        cost_micros=300,
        usage={"total_tokens": 7},
        skeleton=b'{"data":[\xff]}',
        upstream_request_id="up_1",
    )
    return replace(basis, **fields)  # type: ignore[arg-type]


def a_manifest(call: CallRecord, images: tuple[StoredImage, ...], state: State = "done") -> Manifest:
    """Write down how a call ended."""
    return Manifest(
        call=call, owner_name=ANN.name, visibility="team", settlement=an_end(call, state), images=images
    )


async def admit(index: Index, *calls: CallRecord) -> None:
    """Let ann in, and open a row with its slot and hold for each call."""

    def work(tx: Tx) -> None:
        users.add_user(tx, ANN)
        for call in calls:
            parties = [Party("user", each, NO_LIMITS) for each in call.accounts]
            gate.admit(tx, gate.open_accounts(tx, parties, call.created_us), call, now_us=call.created_us)

    await index.write(work)
