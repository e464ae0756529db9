"""What `request.json` says: everything about a call that index and bill are rebuilt from."""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from pixie_proxy.records import CallRecord, Settlement, StoredImage, Visibility

OBJECT = "pixie.request"
VERSION = 1
_OLDEST_KEYS = 27
"""What the first manifests of this version had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One call, how it ended and the images it brought. `visibility` is what its images start with."""

    call: CallRecord
    owner_name: str
    visibility: Visibility
    settlement: Settlement
    images: tuple[StoredImage, ...]

    def to_json(self) -> bytes:
        """Write the self-describing form that lies beside the images, in every backend."""
        call, end = self.call, self.settlement
        return orjson.dumps(
            {
                "object": OBJECT,
                "version": VERSION,
                "id": call.id,
                "owner": {"id": call.user_id, "name": self.owner_name},
                "key_id": call.key_id,
                "kind": call.kind,
                "requested_model": call.requested_model,
                "model": call.model,
                "prompt": call.prompt,
                "params": call.params,
                "images_asked": call.images_asked,
                "stream": call.is_stream,
                "fingerprint": call.fingerprint,
                "idempotency_key": call.idempotency_key,
                "created_us": call.created_us,
                "process": call.process,
                "state": end.state,
                "settled_us": end.settled_us,
                "hold_micros": call.hold_micros,
                "cost_micros": end.cost_micros,
                "usage": end.usage,
                "upstream_request_id": end.upstream_request_id,
                "error": end.error,
                "flags": end.flags,
                "visibility": self.visibility,
                "parents": call.parents,
                "images": [asdict(image) for image in self.images],
                "answer": base64.b64encode(end.skeleton).decode() if end.skeleton is not None else None,
            },
            option=orjson.OPT_INDENT_2,
        )

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Read a manifest back. Raises ValueError when it is not one that we can read."""
        try:
            return cls._from(orjson.loads(text))
        except (KeyError, TypeError, AttributeError) as exc:
            message = f"not a manifest: {type(exc).__name__}"
            raise ValueError(message) from exc

    @classmethod
    def _from(cls, said: dict[str, Any]) -> Manifest:
        if said["object"] != OBJECT or said["version"] < 1:
            message = "it is something else"
            raise ValueError(message)
        if said["version"] > VERSION:
            message = f"written by a newer version ({said['version']})"
            raise ValueError(message)
        if "parents" not in said and len(said) > _OLDEST_KEYS:  # there was none in those of before 2026-11-21
            message = "a key is misspelt"
            raise ValueError(message)
        call = CallRecord(
            id=said["id"],
            user_id=said["owner"]["id"],
            key_id=said["key_id"],
            kind=said["kind"],
            requested_model=said["requested_model"],
            model=said["model"],
            prompt=said["prompt"],
            params=said["params"],
            images_asked=said["images_asked"],
            is_stream=said["stream"],
            fingerprint=said["fingerprint"],
            idempotency_key=said["idempotency_key"],
            hold_micros=said["hold_micros"],
            process=said["process"],
            created_us=said["created_us"],
            parents=tuple(said.get("parents", ())),
        )
        settlement = Settlement(
            request_id=said["id"],
            state=said["state"],
            settled_us=said["settled_us"],
            cost_micros=said["cost_micros"],
            usage=said["usage"],
            skeleton=base64.b64decode(said["answer"]) if said["answer"] is not None else None,
            error=said["error"],
            upstream_request_id=said["upstream_request_id"],
            flags=tuple(said["flags"]),
        )
        return cls(
            call=call,
            owner_name=said["owner"]["name"],
            visibility=said["visibility"],
            settlement=settlement,
            images=tuple(StoredImage(**image) for image in said["images"]),
        )
