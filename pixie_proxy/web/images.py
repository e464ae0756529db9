"""OpenAI's own routes: generations, edits and variations."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from aiohttp import web

from pixie_proxy.errors import InvalidValue, ProxyError, UnsupportedMediaType
from pixie_proxy.generation import Attempt
from pixie_proxy.records import Kind
from pixie_proxy.relay.request import ImageRequest
from pixie_proxy.web.answers import send_answer
from pixie_proxy.web.bodies import read_form, read_json
from pixie_proxy.web.context import MODEL, REQUEST_ID, USER, context_of

MAX_IDEMPOTENCY_KEY = 255
_RETRY_COUNT = "x-stainless-retry-count"
"""What OpenAI's SDKs, and all others made by Stainless, tell of their tries: 0, then 1, then 2."""


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
    idempotency_key = _idempotency_key(request)
    attempt = Attempt.of(request[USER].id, kind, request.content_length, _retry_count(request))
    uploads = context.spool.uploads / request[REQUEST_ID]
    try:
        if idempotency_key is None and not attempt.is_retry:  # else it may be a call that we have already
            context.generation.refuse_early()
        with context.uploads.hold(request[USER]):
            asked = await read_request(request, kind, uploads)
        request[MODEL] = asked.model
    except BaseException as exc:
        if isinstance(exc, ProxyError) and idempotency_key is None:
            context.generation.note_refusal(exc, attempt)
        await asyncio.to_thread(shutil.rmtree, uploads, ignore_errors=True)
        raise
    answer = await context.generation.start(
        asked,
        request[USER],
        attempt=attempt,
        request_id=request[REQUEST_ID],
        idempotency_key=idempotency_key,
        uploads=uploads if asked.files else None,
    )
    return await send_answer(request, answer)


async def read_request(request: web.Request, kind: Kind, uploads: Path) -> ImageRequest:
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
    if not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY or not key.isprintable():
        message = f"Idempotency-Key must be 1 to {MAX_IDEMPOTENCY_KEY} printable characters."
        raise InvalidValue(message, param="Idempotency-Key")
    return key


def _retry_count(request: web.Request) -> int | None:
    """Read how often an SDK has tried this before; what is no small number says nothing."""
    said = request.headers.get(_RETRY_COUNT, "")
    return int(said) if said.isascii() and said.isdigit() and len(said) <= 2 else None
