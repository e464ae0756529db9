"""OpenAI's own routes: generations, edits and variations."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from aiohttp import web

from pixie_proxy.errors import InvalidValue, UnsupportedMediaType
from pixie_proxy.records import Kind
from pixie_proxy.relay.request import ImageRequest
from pixie_proxy.web.answers import send_answer
from pixie_proxy.web.bodies import read_form, read_json
from pixie_proxy.web.context import MODEL, REQUEST_ID, USER, context_of

_MAX_IDEMPOTENCY_KEY = 255


async def generations(request: web.Request) -> web.StreamResponse:
    """Make images from a prompt."""
    return await _paid_call(request, "generation")


async def edits(request: web.Request) -> web.StreamResponse:
    """Make images from images, sent as a form or, with `images[]` refs, as JSON."""
    return await _paid_call(request, "edit")


async def variations(request: web.Request) -> web.StreamResponse:
    """Relay a call that OpenAI has retired; the upstream answers for itself."""
    return await _paid_call(request, "variation")


async def _paid_call(request: web.Request, kind: Kind) -> web.StreamResponse:
    context = context_of(request)
    context.generation.refuse_early()
    idempotency_key = _idempotency_key(request)
    uploads = context.spool.uploads / request[REQUEST_ID]
    try:
        with context.uploads.hold(request[USER]):
            asked = await _read(request, kind, uploads)
        request[MODEL] = asked.model
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, uploads, ignore_errors=True)
        raise
    answer = await context.generation.start(
        asked,
        request[USER],
        request_id=request[REQUEST_ID],
        idempotency_key=idempotency_key,
        uploads=uploads if asked.files else None,
    )
    return await send_answer(request, answer)


async def _read(request: web.Request, kind: Kind, uploads: Path) -> ImageRequest:
    """Read the body in the form that this kind of call takes."""
    limits = context_of(request).settings.uploads
    if request.content_type == "application/json" and kind != "variation":
        return ImageRequest.from_json(
            kind, await read_json(request, limits), allow_file_id=limits.allow_file_id
        )
    if kind == "generation":
        message = f"Send this as application/json, not {request.content_type}."
        raise UnsupportedMediaType(message)
    form = await read_form(request, uploads, limits)
    return ImageRequest.from_form(kind, form.texts, form.files, allow_file_id=limits.allow_file_id)


def _idempotency_key(request: web.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 1 <= len(key) <= _MAX_IDEMPOTENCY_KEY or not key.isprintable():
        message = f"Idempotency-Key must be 1 to {_MAX_IDEMPOTENCY_KEY} printable characters."
        raise InvalidValue(message, param="Idempotency-Key")
    return key
