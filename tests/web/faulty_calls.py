"""Calls to an upstream that does wrong, through the SDK, and what must come of them."""

from __future__ import annotations

import base64
from typing import Any

import openai

from tests.support.pictures import png
from tests.web.broken_answers import Ask, Fault
from tests.web.calling import CAT, error_of, files_of

ASKS = [Ask(is_stream, is_edit) for is_stream in (False, True) for is_edit in (False, True)]
HAT = png(size_bytes=20_000)


async def by_sdk(sdk: openai.AsyncOpenAI, ask: Ask) -> list[bytes] | openai.APIError:
    """Call with the official SDK: the pictures, or the error that it raised. Any other exception is a failure."""
    fields: dict[str, Any] = {**CAT, "n": 2, "stream": ask.is_stream}
    try:
        if ask.is_edit:
            answer = await sdk.images.edit(**fields, image=HAT)
        else:
            answer = await sdk.images.generate(**fields)
        if not ask.is_stream:
            return files_of(answer)
        return [
            base64.b64decode(event.b64_json, validate=True)
            async for event in answer
            if event.type == f"image_{ask.kind}.completed"
        ]
    except openai.APIError as exc:
        return exc


def check_sdk(found: list[bytes] | openai.APIError, fault: Fault, ask: Ask) -> None:
    if fault.end == "images" or (fault.end == "any" and isinstance(found, list)):
        assert found == list(fault.gives)
        return
    assert isinstance(found, openai.APIError), f"{len(found)} pictures instead of an error"
    if isinstance(found, openai.APIStatusError):
        assert error_of(found.response.content)["code"] == fault.code
        told = found.response.headers
        assert told["x-request-id"].startswith("req_")
        assert (told.get("x-should-retry") == "false") == (fault.end != "failed")
    elif not isinstance(found, openai.APIConnectionError):
        assert ask.is_stream
        assert found.code == fault.code
