"""Files that are two things at once: a picture to us, and a page, a script or an archive to whoever believes that."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

from tests.support.pictures import gif, jpeg, png, png_of, webp

Carrier = Callable[[bytes, bytes], bytes]
"""Gives a file that carries a piece of HTML, or of JavaScript."""

_SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9" height="9"'
)
_XHTML = b'xmlns="http://www.w3.org/1999/xhtml"'
_PIXEL = b"\x78\x9c\x63\x60\x60\x60\x00\x00\x00\x04\x00\x01"


def payloads(url: str) -> list[tuple[bytes, bytes]]:
    """Ways to ask for `url` from HTML, and from JavaScript: whichever runs is seen there."""
    ask = f"fetch('{url}',{{mode:'no-cors'}})"
    html = (
        f"<script>{ask}</script>",
        f'<img src="x:" onerror="{ask}">',
        f'<svg onload="{ask}"></svg>',
        f'<iframe srcdoc="&lt;script>{ask}&lt;/script>"></iframe>',
        f'<link rel="stylesheet" href="{url}"><meta http-equiv="refresh" content="0;url={url}">',
    )
    script = (
        ask,
        f"new Image().src='{url}'",
        f"navigator.sendBeacon('{url}')",
        f"import('{url}')",
        f"document.write('<link rel=stylesheet href={url}>')",
    )
    return [(page.encode(), code.encode()) for page, code in zip(html, script, strict=True)]


def _segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def _jpeg_with(marker: int, body: bytes) -> bytes:
    return jpeg()[:2] + _segment(marker, body) + jpeg()[2:]


def _webp_with(name: bytes, body: bytes) -> bytes:
    body += bytes(len(body) % 2)
    data = webp() + name + struct.pack("<I", len(body)) + body
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def _zip(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, data)
    return out.getvalue()


def _pdf(js: bytes) -> bytes:
    return (
        b"%PDF-1.7\n1 0 obj<</Type/Catalog/Pages 2 0 R/OpenAction<</S/JavaScript/JS(" + js + b")>>>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
    )


def _svg(inside: bytes, more: bytes = b"") -> bytes:
    return _SVG + more + b">" + inside + b"</svg>"


CARRIERS: dict[str, Carrier] = {
    "GIF/JS in a comment": lambda _, js: b"GIF89a/*" + bytes(40) + b"*/=1;" + js,
    "GIF/JS as a name": lambda _, js: b"GIF89a=1;" + js,
    "GIF/JS of an old version": lambda _, js: b"GIF87a/*" + gif()[8:] + b"*/=1;" + js,
    "GIF/JS that is a picture": lambda _, js: b"GIF89a/*" + gif(8, 8)[8:-1] + b"\x3b*/=1;" + js,
    "GIF/HTML behind its name": lambda html, _: b"GIF89a" + html,
    "GIF/HTML in a comment": lambda html, _: gif()[:-1] + b"!\xfe" + bytes([len(html)]) + html + b"\0;",
    "GIF/HTML behind its end": lambda html, _: gif() + html,
    "PNG/HTML in a text": lambda html, _: png_of(1, 1, (b"tEXt", b"Title\0" + html), pixels=_PIXEL),
    "PNG/HTML in a text of today": lambda html, _: png_of(
        1, 1, (b"iTXt", b"T\0\0\0\0\0" + html), pixels=_PIXEL
    ),
    "PNG/HTML in a chunk": lambda html, _: png_of(1, 1, (b"htMl", html), pixels=_PIXEL),
    "PNG/HTML in its pixels": lambda html, _: png_of(1, 1, pixels=html),
    "PNG/HTML behind its name": lambda html, _: b"\x89PNG\r\n\x1a\n" + html,
    "PNG/HTML behind its end": lambda html, _: png() + html,
    "JPEG/HTML in a comment": lambda html, _: _jpeg_with(0xFE, html),
    "JPEG/HTML in EXIF": lambda html, _: _jpeg_with(0xE1, b"Exif\0\0" + html),
    "JPEG/HTML behind its end": lambda html, _: jpeg() + html,
    "JPEG/JS in a segment": lambda _, js: b"\xff\xd8\xff\xe0/*" + bytes(0x2F2A - 2) + b"*/=1;" + js,
    "JPEG/PDF in a comment": lambda _, js: _jpeg_with(0xFE, _pdf(js)),
    "JPEG/PDF behind its name": lambda _, js: b"\xff\xd8\xff" + _pdf(js),
    "PDF/JPEG": lambda _, js: _pdf(js) + jpeg(),
    "WebP/JS in its length": lambda _, js: b"RIFF/*\0\0WEBP*/=1;" + js,
    "WebP/HTML in EXIF": lambda html, _: _webp_with(b"EXIF", html),
    "WebP/HTML behind its end": lambda html, _: webp() + html,
    "SVG with a script": lambda _, js: _svg(b"<script>" + js + b"</script>"),
    "SVG that begins": lambda _, js: _svg(b"", b' onload="' + js + b'"'),
    "SVG that moves": lambda _, js: _svg(b'<animate attributeName="x" dur="1s" onbegin="' + js + b'"/>'),
    "SVG/HTML inside": lambda html, _: _svg(
        b"<foreignObject><body " + _XHTML + b">" + html + b"</body></foreignObject>"
    ),
    "SVG/HTML behind a comment": lambda html, _: b"<!-- x -->" + _svg(b"") + html,
    "SVG/HTML behind a declaration": lambda html, _: b'<?xml version="1.0"?>' + _svg(b"<g>" + html + b"</g>"),
    "SVG/HTML behind a byte order mark": lambda html, _: b"\xef\xbb\xbf" + _svg(b"") + html,
    "HTML/SVG": lambda html, _: b"<!doctype html>" + html + _svg(b""),
    "PNG/ZIP": lambda html, _: png() + _zip("index.html", html),
    "GIF/ZIP": lambda html, _: gif() + _zip("META-INF/MANIFEST.MF", html),
    "ZIP/PNG": lambda html, _: _zip("a.png", png() + html),
    "HTML": lambda html, _: b"<html><body>" + html,
    "HTML in another alphabet": lambda html, _: ("\ufeff" + html.decode()).encode("utf-16-le"),
    "HTML of XML": lambda _, js: b"<html " + _XHTML + b"><script>" + js + b"</script></html>",
    "TIFF/HTML": lambda html, _: b"II*\0\x08\0\0\0" + html,
    "BMP/JS": lambda _, js: b"BM=1;" + js,
    "ICO/HTML": lambda html, _: b"\0\0\1\0\1\0" + html,
}


def polyglots(url: Callable[[int], str]) -> list[tuple[str, bytes]]:
    """Every carrier with every payload: 200 by name. `url` gives the address that shows when number n ran."""
    return [
        (f"{name}, {which}", carrier(*payloads(url(5 * number + which))[which]))
        for number, (name, carrier) in enumerate(CARRIERS.items())
        for which in range(5)
    ]
