"""Writes lists of shapes as SVG: the same picture as `raster` paints, with all text escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from pixie_proxy.upstream.demo.raster import MARK
from pixie_proxy.upstream.demo.shapes import Color, Glow, Oval, Point, Poly, Shape, Sky
from pixie_proxy.upstream.demo.stage import CAPTION_SHARE

_CAPTION_CHARACTERS = 90
_BADGE = (
    '<rect width="160" height="60" rx="30" fill="#12121e" fill-opacity=".7" stroke="#fcf8ee" stroke-width="3"/>'
    f'<text x="82" y="41" font-size="32" letter-spacing="5" text-anchor="middle">{MARK}</text>'
)


def write_svg(shapes: Iterable[Shape], width: int, height: int, prompt: str, mark: str) -> bytes:
    """Write a whole SVG document of `width` × `height` pixels with its caption; `mark` says what made it."""
    unit = float(min(width, height))
    defs: list[str] = []
    body = [_element(shape, unit, defs) for shape in shapes]
    strip = CAPTION_SHARE * unit
    text = " ".join("".join([char if char.isprintable() else " " for char in prompt]).split())
    text = text if len(text) <= _CAPTION_CHARACTERS else text[: _CAPTION_CHARACTERS - 1].rstrip() + "…"
    badge = unit * 0.16
    edge = unit * 0.028
    body += [
        f'<rect y="{height - strip:.1f}" width="{width}" height="{strip:.1f}" fill="#12121e" fill-opacity=".8"/>',
        f'<text x="{edge:.1f}" y="{height - strip * 0.37:.1f}" font-size="{strip * 0.36:.1f}">{escape(text)}</text>',
        f'<g transform="translate({width - edge - badge:.1f} {edge:.1f}) scale({unit / 1000:g})">{_BADGE}</g>',
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f"<title>{escape(text)}</title><desc>{escape(mark)}</desc><defs>{''.join(defs)}</defs>"
        f'<g font-family="sans-serif" fill="#fcf8ee">{"".join(body)}</g></svg>'
    ).encode()


def _element(shape: Shape, unit: float, defs: list[str]) -> str:
    if isinstance(shape, Sky):
        name = f"g{len(defs)}"
        stops = "".join([f'<stop offset="{at:g}" stop-color="{_hex(color)}"/>' for at, color in shape.stops])
        defs.append(f'<linearGradient id="{name}" x2="0" y2="1">{stops}</linearGradient>')
        return f'<rect width="100%" height="100%" fill="url(#{name})"/>'
    if isinstance(shape, Glow):
        name = f"g{len(defs)}"
        color, alpha = _hex(shape.color), shape.alpha / 255
        stops = "".join(
            [
                f'<stop offset="{at:g}" stop-color="{color}" stop-opacity="{alpha * (1 - at) ** 2:.3f}"/>'
                for at in (0, 0.25, 0.5, 0.75, 1)
            ]
        )
        defs.append(f'<radialGradient id="{name}">{stops}</radialGradient>')
        x, y = shape.at[0] * unit, shape.at[1] * unit
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{shape.radius * unit:.1f}" fill="url(#{name})"/>'
    paint = f'fill="{_hex(shape.color)}"' + (
        f' fill-opacity="{shape.alpha / 255:.2f}"' if shape.alpha < 255 else ""
    )
    if isinstance(shape, Oval):
        return (
            f'<ellipse cx="{shape.at[0] * unit:.1f}" cy="{shape.at[1] * unit:.1f}" rx="{shape.rx * unit:.2f}"'
            f' ry="{shape.ry * unit:.2f}" {paint}/>'
        )
    if isinstance(shape, Poly):
        return f'<path d="M{_path(shape.points, unit)}Z" {paint}/>'
    return (
        f'<path d="M{_path(shape.points, unit)}" fill="none" stroke="{_hex(shape.color)}"'
        f' stroke-width="{max(0.5, shape.width * unit):.1f}" stroke-opacity="{shape.alpha / 255:.2f}"'
        ' stroke-linejoin="round"/>'
    )


def _path(points: tuple[Point, ...], unit: float) -> str:
    return "L".join([f"{x * unit:.1f} {y * unit:.1f}" for x, y in points])


def _hex(color: Color) -> str:
    return f"#{color[0]:02x}{color[1]:02x}{color[2]:02x}"
