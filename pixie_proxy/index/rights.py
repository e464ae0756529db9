"""What somebody may see, as lists that are each a walk along an index of its own."""

from __future__ import annotations

from dataclasses import dataclass

from pixie_proxy.records import VISIBILITIES, User, Visibility

_SEEN: dict[Visibility | None, tuple[str, ...]] = {
    "private": ("i.visibility = 'private'",),
    "team": ("i.visibility = 'team'",),
    "public": ("i.visibility = 'public'",),
    None: (),
}


@dataclass(frozen=True, slots=True)
class Right:
    """One list that a viewer may see: the images of a visibility (None: the trash), all or only the viewer's own."""

    visibility: Visibility | None
    is_own: bool = False

    @property
    def conditions(self) -> tuple[str, ...]:
        """Write what holds of its images `i`; `:viewer` is the viewer's id."""
        return _SEEN[self.visibility] + (("i.owner_id = :viewer",) if self.is_own else ())


def rights(
    viewer: User, owner_id: str | None = None, visibility: Visibility | None = None, *, deleted: bool = False
) -> list[Right]:
    """Say what a viewer may see as lists of which an image is in one at most.

    As one condition with OR, a listing would walk past every image that others keep private.
    """
    if deleted:
        return [Right(None, is_own=not viewer.is_admin)]
    found = []
    for each in VISIBILITIES:
        if visibility not in (None, each):
            continue
        if each != "private" or viewer.is_admin:
            found.append(Right(each))
        elif owner_id in (None, viewer.id):
            found.append(Right(each, is_own=True))
    return found


def seen_by(viewer: User) -> str:
    """Write the condition that `viewer` may see an image `i`, for whatever is asked about it; it names `:viewer`."""
    return "(" + " OR ".join([" AND ".join(right.conditions) for right in rights(viewer)]) + ")"
