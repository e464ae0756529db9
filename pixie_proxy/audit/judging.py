"""Judge a request's folder by what the index says of it. Pure: what must be asked for is in `Contents` and `Kept`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pixie_proxy.audit.contents import Contents
from pixie_proxy.audit.findings import Finding, Kind
from pixie_proxy.audit.rebuild import placeholder_name
from pixie_proxy.gallery.state import FolderState
from pixie_proxy.index.audit import Kept
from pixie_proxy.index.ledger import LedgerRow
from pixie_proxy.records import ImageRecord, StoredImage
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import MANIFEST, STATE

PART = ".part"

_CALL = (
    "user_id", "key_id", "kind", "requested_model", "model", "prompt", "params", "images_asked", "is_stream",
    "fingerprint", "hold_micros", "process", "created_us",
)  # fmt: skip
_END = ("state", "settled_us", "cost_micros", "usage", "error", "upstream_request_id", "flags")
_IMAGE = ("id", "mime", "size_bytes", "sha256", "width", "height", "revised_prompt")
"""What ledger, images and request.json must agree on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a file must be, and whose it is. The index goes first: its digest is what clients are told."""

    image_id: str
    size_bytes: int
    sha256: str


def expected(contents: Contents, kept: Kept) -> dict[str, Expected]:
    """Give what each image file of a folder must be, by its name, for those that are there."""
    told: dict[str, ImageRecord | StoredImage] = {}
    if contents.manifest is not None:
        told.update((image.file, image) for image in contents.manifest.images)
    told.update((_name(record), record) for record in kept.images)
    return {
        name: Expected(image_id=image.id, size_bytes=image.size_bytes, sha256=image.sha256)
        for name, image in told.items()
        if name in contents.folder.files
    }


def judge(
    contents: Contents, kept: Kept, damage: Mapping[str, tuple[Kind, str]], *, old_before_us: int
) -> list[Finding]:
    """Say what is wrong with a folder; `damage` tells it of bytes, by file name.

    A temporary file that was written after `old_before_us` may still be at work.
    """
    return list(_Judge(contents, kept, damage, old_before_us).findings())


@dataclass(frozen=True, slots=True)
class _Judge:
    contents: Contents
    kept: Kept
    damage: Mapping[str, tuple[Kind, str]]
    old_before_us: int

    def findings(self) -> Iterator[Finding]:
        if self.kept.images:
            yield from self._dangling()
            yield from self._manifest()
        else:
            yield from self._orphaned_folder()
        yield from self._files()

    def _dangling(self) -> Iterator[Finding]:
        for record in self.kept.images:
            if _name(record) not in self.contents.folder.files:
                was_purged = record.id in self.contents.purged
                detail = (
                    "it was purged: the index is older than storage" if was_purged else "there is no file"
                )
                yield self._finding("dangling", record.ref, detail, record.id)

    def _manifest(self) -> Iterator[Finding]:
        """Compare what the folder says of itself with the index."""
        contents, row = self.contents, self.kept.row
        if not contents.folder.files:
            return
        if contents.manifest is None:
            yield self._file("bad_manifest", MANIFEST, contents.manifest_fault or "")
        elif row is not None and not self.kept.is_open:
            differing = [
                *_of_call(contents.manifest, row, self.kept.images[0].owner_name),
                *_of_images(contents.manifest, self.kept.images),
            ]
            if (
                contents.state_fault is None
                and self.kept.pending is None
                and not self._agrees(contents.manifest)
            ):
                differing.append(STATE)
            if differing:
                yield self._file("mismatch", MANIFEST, "they differ in " + ", ".join(differing))
        if contents.state_fault is not None:
            yield self._file("bad_manifest", STATE, contents.state_fault)

    def _agrees(self, manifest: Manifest) -> bool:
        """Tell whether state.json says what the index says."""
        found = self.contents.state or FolderState(request_id=manifest.call.id, images={})
        return FolderState.of(manifest, self.kept.images, found.purged).images == found.images

    def _orphaned_folder(self) -> Iterator[Finding]:
        """Report a folder without any row as one thing."""
        contents = self.contents
        if not contents.folder.files or self.kept.is_open or self._is_leaving():
            return
        if contents.manifest is None:
            yield self._finding("orphan", contents.folder.ref, contents.manifest_fault or "", None)
        else:
            count = len(contents.manifest.images)
            yield self._finding("orphan", contents.folder.ref, f"images: {count}", None)

    def _is_leaving(self) -> bool:
        """Tell whether everything here was purged, so that the folder goes."""
        pending, manifest = self.kept.pending, self.contents.manifest
        if pending is not None and pending.is_doomed:
            return True
        gone = self._purged()
        return manifest is not None and gone.issuperset(image.id for image in manifest.images)

    def _purged(self) -> set[str]:
        return {*self.contents.purged, *(self.kept.pending.purged if self.kept.pending else ())}

    def _files(self) -> Iterator[Finding]:
        """Look at each file: whole, known, or left over."""
        must = expected(self.contents, self.kept)
        records = {record.id for record in self.kept.images}
        leaving = set(self.kept.pending.purged.values()) if self.kept.pending else set()
        for name, file in self.contents.folder.files.items():
            if name in {MANIFEST, STATE}:
                continue
            image = must.get(name)
            if image is not None and name in self.damage:
                kind, detail = self.damage[name]
                yield self._file(kind, name, detail, image.image_id)
            if name.endswith(PART):
                if file.modified_us < self.old_before_us:
                    yield self._file("leftover", name, "a write that never ended")
            elif records and name not in leaving and (image is None or image.image_id not in records):
                yield self._file("orphan", name, "no row names it", image.image_id if image else None)

    def _file(self, kind: Kind, name: str, detail: str, image_id: str | None = None) -> Finding:
        return self._finding(kind, f"{self.contents.folder.ref}/{name}", detail, image_id)

    def _finding(self, kind: Kind, ref: str, detail: str, image_id: str | None) -> Finding:
        return Finding(kind=kind, ref=ref, detail=detail, request_id=self.kept.request_id, image_id=image_id)


def _name(record: ImageRecord) -> str:
    return record.ref.rpartition("/")[2]


def _of_call(manifest: Manifest, row: LedgerRow, owner_name: str) -> list[str]:
    """Name what ledger and manifest differ in.

    A key's day may be over, and an answer whose images were purged is given no more: the ledger may have neither.
    """
    call, end = manifest.call, manifest.settlement
    differing = [name for name in _CALL if getattr(call, name) != getattr(row.call, name)]
    if row.call.idempotency_key not in {None, call.idempotency_key}:
        differing.append("idempotency_key")
    if owner_name not in {manifest.owner_name, placeholder_name(manifest.owner_name, call.user_id)}:
        differing.append("owner")
    if "not_kept" not in row.flags:  # else the disk failed, and the manifest may be an earlier one
        differing += [name for name in _END if getattr(end, name) != getattr(row, name)]
        if row.skeleton not in {None, end.skeleton}:
            differing.append("answer")
    return differing


def _of_images(manifest: Manifest, records: list[ImageRecord]) -> list[str]:
    """Name what rows and manifest differ in."""
    call = manifest.call
    told = {image.position: image for image in manifest.images}
    differing = []
    for record in records:
        image = told.get(record.position)
        if image is None:
            differing.append(f"{record.id}: not in {MANIFEST}")
            continue
        wrong = [name for name in _IMAGE if getattr(image, name) != getattr(record, name)]
        whole = {
            "file": image.file == _name(record),
            "owner_id": record.owner_id == call.user_id,
            "kind": record.kind == call.kind,
            "model": record.model == call.model,
        }
        wrong += [name for name, holds in whole.items() if not holds]
        differing += [f"{record.id}: {name}" for name in wrong]
    return differing
