"""What a stream of events has come to: which events count, and when they are all that was asked for."""

from __future__ import annotations

from typing import Any

from pixie_proxy.relay.pieces import AnswerBroken, AnswerTruncated, EventKind


class Outcome:
    """Counts the events of a stream for `expected` images."""

    def __init__(self, expected: int) -> None:
        """Begin before the first event."""
        self._expected = expected
        self._has_error = False
        self.completed = 0
        """How many `completed` events with an image, or a link to one, have ended."""
        self.is_done = False
        """Whether `[DONE]` came."""
        self.is_spoilt = False
        """Whether an event was given out in part that has no good end."""

    def note(self, kind: EventKind, *, has_image: bool) -> None:
        """Count an event that has ended."""
        self._has_error = self._has_error or kind == "error"
        self.completed += kind == "completed" and has_image

    @property
    def is_whole(self) -> bool:
        """Whether nothing more has to come, so that a cut would take nothing away."""
        return self._has_error or self.completed >= self._expected or (self.is_done and self.completed > 0)

    def judge(self, *, was_cut: bool) -> None:
        """Judge the end of the stream; `was_cut`: only what it told itself counts. Raises AnswerBroken."""
        if self.is_spoilt:
            raise AnswerBroken("an event with an image is no JSON")
        if not (self._has_error or self.completed):
            raise AnswerTruncated("the stream ended without a completed image or an error")
        if was_cut and not self.is_whole:
            raise AnswerTruncated(f"the stream broke off behind {self.completed} of {self._expected} images")


def kind_of(fields: dict[str, Any], name: bytes) -> EventKind:
    """Tell what an event is by its `type`, else by its `event:` line; without data it is nothing."""
    if not fields:
        return "other"
    type_ = fields.get("type")
    if not isinstance(type_, str):
        type_ = name.decode("utf-8", "replace")
    if type_.endswith(".partial_image"):
        return "partial"
    if type_.endswith(".completed"):
        return "completed"
    return "error" if type_ == "error" or fields.get("error") or name == b"error" else "other"
