"""Read the small forms of our own pages."""

from __future__ import annotations

from urllib.parse import parse_qsl

from aiohttp import web

from pixie_proxy.errors import InvalidBody, RequestTooLarge, UnsupportedMediaType
from pixie_proxy.web.context import FIELDS

_MOST_BYTES = 16 * 1024
_MOST_FIELDS = 20


async def read_fields(request: web.Request) -> dict[str, str]:
    """Read a form's fields, once a request; of a name that comes twice the last one counts."""
    if FIELDS in request:
        return request[FIELDS]
    if request.content_type != "application/x-www-form-urlencoded":
        message = "Send this as a form (application/x-www-form-urlencoded)."
        raise UnsupportedMediaType(message)
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise RequestTooLarge(f"The form is larger than {_MOST_BYTES} bytes.")
    try:
        pairs = parse_qsl(
            body.decode("utf-8", "surrogateescape"),
            keep_blank_values=True,
            errors="surrogateescape",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        raise InvalidBody("The form can't be read.") from None
    request[FIELDS] = fields = dict(pairs)
    return fields
