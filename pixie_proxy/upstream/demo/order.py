"""What the demo upstream is asked for, once its rules have been checked: `form` makes orders, `pictures` fills them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["generation", "edit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One checked request. `quality` and `background` are never `auto`; `image_pixels` are the inputs' sizes."""

    kind: Kind
    model: str
    prompt: str
    n: int
    width: int
    height: int
    quality: str
    background: str
    output_format: str
    output_compression: int
    is_stream: bool
    partial_images: int
    safety_identifier: str | None
    frame_count: int
    frame_duration_ms: int
    svg_model: str | None
    images: tuple[bytes, ...] = ()
    image_pixels: tuple[tuple[int, int], ...] = ()
    mask: bytes | None = None
    markup: bytes | None = None

    @property
    def size(self) -> str:
        """The size as the API spells it."""
        return f"{self.width}x{self.height}"
