"""Draws what an order asks for and encodes it. Slow (50–500 ms): call it in a thread.

A picture depends on nothing but the order and its index, so the same request gives the same bytes.
"""

from __future__ import annotations

import io

from PIL import Image, ImageChops, ImageFilter, ImageOps, PngImagePlugin

from pixie_proxy.upstream.demo.brief import Brief, read_brief, seeded
from pixie_proxy.upstream.demo.order import Order
from pixie_proxy.upstream.demo.raster import add_caption, paint
from pixie_proxy.upstream.demo.scene import compose, compose_addition, compose_cutout
from pixie_proxy.upstream.demo.shapes import Shape
from pixie_proxy.upstream.demo.vector import write_svg

MARK_TEXT = "Demo picture of pixie_proxy: drawn by rules, not made by an AI model."
OPENED_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MOST_INPUT_PIXELS = 40_000_000

Picture = Image.Image | list[Image.Image] | bytes


def draw(order: Order, index: int) -> Picture:
    """Draw one picture: an image, the frames of an animation, or the text of an SVG."""
    if order.output_format == "svg":
        shapes = _shapes(order, index, order.width / _edge(order), order.height / _edge(order))
        return write_svg(shapes, order.width, order.height, order.prompt, MARK_TEXT)
    if order.output_format == "gif":
        return [_finished(order, index, step / order.frame_count) for step in range(order.frame_count)]
    return _finished(order, index)


def encode(picture: Picture, order: Order) -> bytes:
    """Encode a picture in the order's format, with a note inside that it is a demo picture."""
    if isinstance(picture, bytes):
        return picture
    out = io.BytesIO()
    if isinstance(picture, list):
        _save_gif(picture, order, out)
    elif order.output_format == "jpeg":
        picture.save(out, "JPEG", quality=_quality(order), comment=MARK_TEXT.encode())
    elif order.output_format == "webp":
        exif = Image.Exif()
        exif[0x010E] = MARK_TEXT  # ImageDescription
        picture.save(out, "WEBP", quality=_quality(order), method=2, exif=exif)
    else:
        note = PngImagePlugin.PngInfo()
        note.add_text("Comment", MARK_TEXT)
        picture.save(out, "PNG", compress_level=3, pnginfo=note)
    return out.getvalue()


def blurred(picture: Picture, stage: int) -> Picture:
    """Show a picture as it might look while it is being made: large soft blocks first, finer ones later."""
    if not isinstance(picture, Image.Image):
        return picture
    blocks = 20 * 2**stage
    share = blocks / min(picture.size)
    small = picture.resize(
        (max(1, round(picture.width * share)), max(1, round(picture.height * share))), Image.Resampling.BOX
    )
    return small.resize(picture.size, Image.Resampling.BICUBIC)


def _quality(order: Order) -> int:
    # Pillow's 100 stores noise; the real service's default of 100 looks like a good 95 in bytes.
    return max(1, min(95, order.output_compression))


def _edge(order: Order) -> int:
    return min(order.width, order.height)


def _shapes(order: Order, index: int, width: float, height: float, phase: float = 0.0) -> list[Shape]:
    rng = seeded(order.prompt, order.model, order.size, order.quality, index)
    brief = read_brief(order.prompt, rng)
    build = compose_cutout if order.background == "transparent" else compose
    return build(brief, rng, width, height, phase=phase)


def _finished(order: Order, index: int, phase: float = 0.0) -> Image.Image:
    edge = _edge(order)
    if order.kind == "edit":
        image = _edited(order, index, phase)
    else:
        shapes = _shapes(order, index, order.width / edge, order.height / edge, phase)
        image = paint(shapes, order.width, order.height, is_opaque=order.background != "transparent")
    add_caption(image, order.prompt, f"{order.model} · {order.size} · {order.quality}")
    return image


def open_input(data: bytes) -> Image.Image:
    """Open an input image, upright. Raises OSError or ValueError for what is none, or is too large."""
    image = Image.open(io.BytesIO(data), formats=OPENED_FORMATS)
    if image.width * image.height > MOST_INPUT_PIXELS:
        raise ValueError("too many pixels")
    image.draft("RGB", (2048, 2048))
    return ImageOps.exif_transpose(image)


def _edited(order: Order, index: int, phase: float) -> Image.Image:
    """Show the first input as the base, edited; further inputs lie on it as prints."""
    size = (order.width, order.height)
    edge = _edge(order)
    base = ImageOps.fit(open_input(order.images[0]).convert("RGBA"), size, Image.Resampling.BILINEAR)
    paper = Image.new("RGBA", size, (246, 244, 240, 255))
    if order.background == "transparent":
        paper = Image.new("RGBA", size)
    paper.alpha_composite(base)
    rng = seeded(order.prompt, order.model, order.size, order.quality, index)
    brief = read_brief(order.prompt, rng)
    region = order.mask or order.markup
    if region:
        shapes = compose(brief, rng, order.width / edge, order.height / edge, phase=phase)
        scene = paint(shapes, *size).convert("RGBA")
        paper = Image.composite(scene, paper, _region(region, size, is_markup=order.mask is None))
    else:
        paper = _tinted(paper, brief, seeded(order.prompt, index).randrange(4))
        added = compose_addition(brief, rng, order.width / edge, order.height / edge)
        paper.alpha_composite(paint(added, *size, is_opaque=False))
    for position, data in enumerate(order.images[1:5]):
        _lay_print(paper, data, position)
    return paper if order.background == "transparent" else paper.convert("RGB")


def _region(data: bytes, size: tuple[int, int], *, is_markup: bool) -> Image.Image:
    """Give the area to repaint, with a soft edge: where a mask is transparent, where a markup is not."""
    alpha = ImageOps.fit(open_input(data).convert("RGBA").getchannel("A"), size, Image.Resampling.BILINEAR)
    area = alpha if is_markup else ImageChops.invert(alpha)
    return area.filter(ImageFilter.BoxBlur(max(1, min(size) // 200)))


def _tinted(image: Image.Image, brief: Brief, variant: int) -> Image.Image:
    """Grade the colours towards the brief's tint (or a light of our own), so that an edit is seen."""
    tints = ((236, 168, 92), (96, 140, 196), (196, 110, 150), (100, 170, 140))
    tint = brief.tint or tints[variant]
    alpha = image.getchannel("A")
    grey = ImageOps.colorize(image.convert("L"), (22, 22, 44), (255, 250, 240), mid=tint)
    graded = Image.blend(image.convert("RGB"), grey, 0.42).convert("RGBA")
    graded.putalpha(alpha)
    return graded


def _lay_print(paper: Image.Image, data: bytes, position: int) -> None:
    edge = min(paper.size)
    side, rim = round(edge * 0.2), max(2, round(edge * 0.012))
    photo = ImageOps.fit(open_input(data).convert("RGB"), (side, side), Image.Resampling.BILINEAR)
    card = ImageOps.expand(photo, rim, (250, 248, 242)).convert("RGBA")
    card = card.rotate((-5, 4, -3, 6)[position % 4], Image.Resampling.BICUBIC, expand=True)
    shadow = Image.new("RGBA", card.size, (16, 16, 30, 0))
    shadow.putalpha(card.getchannel("A").point([level // 3 for level in range(256)]))
    place = (
        round(edge * 0.04) + position * round(side * 1.12),
        paper.height - round(edge * 0.11) - card.height,
    )
    paper.alpha_composite(shadow, (place[0] + rim // 2, place[1] + rim // 2))
    paper.alpha_composite(card, place)


def _save_gif(frames: list[Image.Image], order: Order, out: io.BytesIO) -> None:
    # One palette for all frames: shimmering colours would betray nine separate ones.
    palette = frames[0].quantize(255, Image.Quantize.MEDIANCUT)
    drawn = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    drawn[0].save(
        out,
        "GIF",
        save_all=True,
        append_images=drawn[1:],
        duration=order.frame_duration_ms,
        loop=0,
        comment=MARK_TEXT.encode(),
        optimize=False,
    )
