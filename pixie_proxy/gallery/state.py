"""What `state.json` says: what has changed for the images of a request since its manifest was written.

An image is named only where it differs from what the manifest tells: the visibility it started with, no deletion, no
expiry, link epoch 0. A file that would say nothing is not there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from pixie_proxy.records import VISIBILITIES, ImageRecord, Visibility
from pixie_proxy.spool.manifest import Manifest

OBJECT = "pixie.state"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageState:
    """What may change about an image. Times are µs since the epoch, None where there is none."""

    visibility: Visibility
    deleted_us: int | None
    expires_us: int | None
    link_epoch: int
    tags: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Write it as it lies in storage: without tags where there are none, as before there were any."""
        return {name: value for name, value in asdict(self).items() if value or name != "tags"}

    @classmethod
    def from_dict(cls, said: dict[str, Any]) -> ImageState:
        """Read it back. Raises TypeError or ValueError when it is none that we can read."""
        state = cls(**{**said, "tags": tuple(said.get("tags", ()))})
        if state.visibility not in VISIBILITIES or not all(isinstance(tag, str) for tag in state.tags):
            message = "an unknown visibility, or a tag that is no text"
            raise ValueError(message)
        return state


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderState:
    """The images of a request that differ from their manifest, and those that are gone for good."""

    request_id: str
    images: dict[str, ImageState]
    purged: tuple[str, ...] = ()

    @property
    def is_default(self) -> bool:
        """Whether there is nothing to say."""
        return not self.images and not self.purged

    @classmethod
    def of(cls, manifest: Manifest, records: Iterable[ImageRecord], purged: Collection[str]) -> FolderState:
        """Compare what the index says with the manifest."""
        unchanged = ImageState(visibility=manifest.visibility, deleted_us=None, expires_us=None, link_epoch=0)
        states = {
            record.id: ImageState(
                visibility=record.visibility,
                deleted_us=record.deleted_us,
                expires_us=record.expires_us,
                link_epoch=record.link_epoch,
                tags=record.tags,
            )
            for record in records
        }
        return cls(
            request_id=manifest.call.id,
            images={name: state for name, state in states.items() if state != unchanged},
            purged=tuple(sorted(purged)),
        )

    def to_json(self) -> bytes:
        """Write it as it lies in storage."""
        return orjson.dumps(
            {
                "object": OBJECT,
                "version": VERSION,
                "id": self.request_id,
                "images": {name: state.to_dict() for name, state in self.images.items()},
                "purged": self.purged,
            },
            option=orjson.OPT_INDENT_2,
        )

    @classmethod
    def from_json(cls, text: bytes) -> FolderState:
        """Read it back. Raises ValueError when it is not one that we can read."""
        try:
            return cls._from(orjson.loads(text))
        except (KeyError, TypeError, AttributeError) as exc:
            message = f"not a state: {type(exc).__name__}"
            raise ValueError(message) from exc

    @classmethod
    def _from(cls, said: dict[str, Any]) -> FolderState:
        if said["object"] != OBJECT or said["version"] < 1:
            message = "it is something else"
            raise ValueError(message)
        if said["version"] > VERSION:
            message = f"written by a newer version ({said['version']})"
            raise ValueError(message)
        images = {name: ImageState.from_dict(state) for name, state in said["images"].items()}
        return cls(request_id=said["id"], images=images, purged=tuple(said["purged"]))
