"""Paints lists of shapes with Pillow, and sets the caption and the DEMO mark that every demo picture bears."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFont

from pixie_proxy.upstream.demo.shapes import Color, Glow, Oval, Point, Poly, Shape, Sky, Stroke
from pixie_proxy.upstream.demo.stage import CAPTION_SHARE

MOST_PAINTED_PIXELS = 4_300_000
"""Shapes are painted at twice the size for smooth edges, up to this; beyond it a picture is enlarged instead."""
MARK = "DEMO"


def paint(shapes: Iterable[Shape], width: int, height: int, *, is_opaque: bool = True) -> Image.Image:
    """Paint shapes on a new canvas: RGB, or RGBA with nothing behind them."""
    scale = min(2.0, (MOST_PAINTED_PIXELS / (width * height)) ** 0.5)
    size = (round(width * scale), round(height * scale))
    canvas = Image.new("RGB", size, "white") if is_opaque else Image.new("RGBA", size)
    paint_over(canvas, shapes)
    if scale == 2.0:
        return canvas.reduce(2)
    return canvas.resize((width, height), Image.Resampling.BICUBIC)


def paint_over(canvas: Image.Image, shapes: Iterable[Shape]) -> None:
    """Paint shapes over what a canvas shows."""
    unit = float(min(canvas.size))
    # On RGB, Pillow blends; on RGBA it would replace, alpha included, so what is translucent goes through a layer.
    draw = ImageDraw.Draw(canvas, "RGBA")
    for shape in shapes:
        if isinstance(shape, Sky):
            _gradient(canvas, shape)
        elif isinstance(shape, Glow):
            _glow(canvas, shape, unit)
        elif canvas.mode == "RGB" or shape.alpha == 255:
            _draw(draw, shape, unit)
        else:
            left, top, right, bottom = _box(shape, unit, canvas.size)
            if left < right and top < bottom:
                layer = Image.new("RGBA", (right - left, bottom - top))
                _draw(ImageDraw.Draw(layer), shape, unit, left, top)
                canvas.alpha_composite(layer, (left, top))


def _draw(
    draw: ImageDraw.ImageDraw, shape: Oval | Poly | Stroke, unit: float, left: int = 0, top: int = 0
) -> None:
    fill = (*shape.color, shape.alpha)
    if isinstance(shape, Oval):
        x, y = shape.at[0] * unit - left, shape.at[1] * unit - top
        rx, ry = shape.rx * unit, shape.ry * unit
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=fill)
        return
    points = [(x * unit - left, y * unit - top) for x, y in shape.points]
    if isinstance(shape, Poly):
        draw.polygon(points, fill=fill)
    else:
        draw.line(points, fill=fill, width=max(1, round(shape.width * unit)), joint="curve")


def _box(shape: Oval | Poly | Stroke, unit: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Give the part of the canvas that a shape can touch, in pixels."""
    corners: tuple[Point, ...]
    if isinstance(shape, Oval):
        (x, y), rx, ry = shape.at, shape.rx, shape.ry
        corners, rim = ((x - rx, y - ry), (x + rx, y + ry)), 0.0
    else:
        corners, rim = shape.points, shape.width if isinstance(shape, Stroke) else 0.0
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return (
        max(0, int((min(xs) - rim) * unit) - 1),
        max(0, int((min(ys) - rim) * unit) - 1),
        min(size[0], int((max(xs) + rim) * unit) + 2),
        min(size[1], int((max(ys) + rim) * unit) + 2),
    )


def _gradient(canvas: Image.Image, sky: Sky) -> None:
    width, height = canvas.size
    column = Image.new("RGB", (1, height))
    data = bytearray()
    for y in range(height):
        data += bytes(_color_at(sky.stops, y / height))
    column.frombytes(bytes(data))
    canvas.paste(column.resize((width, height)))


def _color_at(stops: tuple[tuple[float, Color], ...], at: float) -> Color:
    for (low, one), (high, two) in pairwise(stops):
        if at <= high:
            share = (at - low) / (high - low)
            share = share * share * (3 - 2 * share)
            return (
                int(one[0] + (two[0] - one[0]) * share + 0.5),
                int(one[1] + (two[1] - one[1]) * share + 0.5),
                int(one[2] + (two[2] - one[2]) * share + 0.5),
            )
    return stops[-1][1]


def _glow(canvas: Image.Image, glow: Glow, unit: float) -> None:
    radius = max(2, round(glow.radius * unit))
    mask = _disc(glow.alpha).resize((2 * radius, 2 * radius), Image.Resampling.BILINEAR)
    corner = (round(glow.at[0] * unit) - radius, round(glow.at[1] * unit) - radius)
    if canvas.mode == "RGB":
        canvas.paste(glow.color, (*corner, corner[0] + 2 * radius, corner[1] + 2 * radius), mask)
        return
    left, top = max(0, corner[0]), max(0, corner[1])
    light = Image.new("RGBA", mask.size, glow.color)
    light.putalpha(mask)
    canvas.alpha_composite(light, (left, top), (left - corner[0], top - corner[1]))


@lru_cache(maxsize=32)
def _disc(alpha: int) -> Image.Image:
    fade = [round(alpha * max(0.0, 1 - level / 181) ** 2) for level in range(256)]
    return Image.radial_gradient("L").point(fade)


def add_caption(image: Image.Image, prompt: str, note: str) -> None:
    """Write the prompt and a note into a strip at the foot, and the DEMO mark into the upper right corner."""
    width, height = image.size
    unit = min(width, height)
    strip = round(CAPTION_SHARE * unit)
    layer = Image.new("RGBA", image.size)
    draw = ImageDraw.Draw(layer)
    draw.rectangle((0, height - strip, width, height), fill=(18, 18, 30, 255 if image.mode == "RGB" else 225))
    pad = round(0.028 * unit)
    small, large = _font(round(strip * 0.25)), _font(round(strip * 0.36))
    note_width = small.getlength(note)
    middle = height - strip / 2
    if note_width < width * 0.55:
        draw.text((width - pad, middle), note, font=small, fill=(214, 216, 230, 190), anchor="rm")
    else:
        note_width = 0
    text = fit(prompt, large, width - 3 * pad - note_width)
    draw.text((pad, middle), text, font=large, fill=(252, 248, 238, 255), anchor="lm")
    font = _font(round(0.032 * unit))
    spaced = " ".join(MARK)
    half, tall = font.getlength(spaced) / 2 + 0.022 * unit, 0.03 * unit
    cx, cy = width - pad - half, pad + tall
    box = (cx - half, cy - tall, cx + half, cy + tall)
    edge = max(1, round(0.003 * unit))
    draw.rounded_rectangle(box, radius=tall, fill=(18, 18, 30, 175), outline=(252, 248, 238, 230), width=edge)
    draw.text((cx, cy), spaced, font=font, fill=(252, 248, 238, 255), anchor="mm")
    if image.mode == "RGB":
        image.paste(layer, (0, 0), layer)
    else:
        image.alpha_composite(layer)


def fit(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """Cut a text to one line of `room` pixels, with an ellipsis; what the font lacks becomes a middle dot."""
    line = "".join([_shown(char) for char in " ".join(text.split())[:400]])
    if font.getlength(line) <= room:
        return line
    low, high = 0, len(line)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(line[:middle] + "…") <= room else (low, middle - 1)
    return line[:low].rstrip() + "…"


@lru_cache(maxsize=2048)
def _shown(char: str) -> str:
    """Give a character that the font has: this one, or the letter under its accent, or a dot."""
    font = _font(16)
    missing = bytes(font.getmask("\uffff"))
    for candidate in (char, unicodedata.normalize("NFKD", char)[0]):
        if candidate == " " or bytes(font.getmask(candidate)) != missing:
            return candidate
    return "·"


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Pillow brings this font along, so pictures look alike on every machine.
    font = ImageFont.load_default(max(8, size))
    assert isinstance(font, ImageFont.FreeTypeFont)  # noqa: S101 - Pillow's wheels have FreeType
    return font
