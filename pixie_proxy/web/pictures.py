"""Images as pages show them: with a text in their place, and a place that is kept while they load."""

from __future__ import annotations

from dataclasses import dataclass

from pixie_proxy.config import Settings
from pixie_proxy.records import ImageRecord, id_time_us
from pixie_proxy.web.wire.images import placeholder_uri

LIST_PX, IMAGE_PX = 256, 512
"""How large thumbnails are wished; `gallery.thumbnail_px` says which there are."""

_ALT_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image as pages show it. `width` and `height` keep its place while it loads.

    `placeholder` is a tiny picture of it for that while, as a `data:` URL. `is_animated`: pointing at it plays it; a
    GIF that nobody has looked at yet counts as one that moves.
    """

    record: ImageRecord
    alt: str
    size_px: int
    width: int
    height: int
    created_us: int
    placeholder: str | None
    is_animated: bool

    @property
    def ratio(self) -> int:
        """Give width by height in steps of 5 %, from 1:2 to 5:2: wall.css has a class for each."""
        return min(max(5 * round(20 * self.width / self.height), 50), 250)


def picture_of(record: ImageRecord, longest_px: int) -> Picture:
    """Fit an image into a square; one that is smaller stays as it is."""
    width, height = record.width or longest_px, record.height or longest_px
    scale = min(1.0, longest_px / max(width, height))
    prompt = " ".join((record.prompt or "").split())
    if len(prompt) > _ALT_CHARACTERS:
        prompt = prompt[: _ALT_CHARACTERS - 1] + "…"
    return Picture(
        record=record,
        size_px=longest_px,
        alt=prompt or "An image without a prompt",
        width=max(1, round(width * scale)),
        height=max(1, round(height * scale)),
        created_us=id_time_us(record.id),
        placeholder=placeholder_uri(record),
        is_animated=record.mime == "image/gif" if record.is_animated is None else record.is_animated,
    )


def size_px(settings: Settings, wanted: int) -> int:
    """Choose among the thumbnails that there are: the next larger one, else the largest."""
    known = settings.gallery.thumbnail_px
    return min((size for size in known if size >= wanted), default=max(known))
