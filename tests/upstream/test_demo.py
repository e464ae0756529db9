"""The demo upstream, asked by the official SDK: only the pictures tell it from the real one."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any
from xml.etree import ElementTree as ET

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI
from PIL import Image, ImageChops, ImageStat

from pixie_proxy.media import dimensions, sniff
from pixie_proxy.pricing import cost_micros, load_prices, usage_from_json
from pixie_proxy.upstream.demo import demo_upstream

TWO, NEWEST, OLD = "gpt-image-2", "gpt-image-2.6-sunburst", "gpt-image-1.5"


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    async with demo_upstream(pace=0) as url:
        yield url


@pytest.fixture
async def client(base_url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=base_url, api_key="sk-demo", max_retries=0) as sdk:
        yield sdk


@pytest.fixture
async def http(base_url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"{base_url}/", headers={"authorization": "Bearer sk-demo"}) as session:
        yield session


def decoded(b64: str | None) -> bytes:
    assert b64
    return base64.b64decode(b64, validate=True)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def saved(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def masked(size: tuple[int, int], hole: tuple[int, int, int, int]) -> bytes:
    mask = Image.new("RGBA", size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), hole)
    return saved(mask)


def difference(one: Image.Image, other: Image.Image, box: tuple[int, int, int, int]) -> float:
    parts = [image.convert("RGB").crop(box) for image in (one, other)]
    return sum(ImageStat.Stat(ImageChops.difference(*parts)).mean)


BASE = saved(Image.new("RGB", (256, 256), (200, 60, 60)))
REQUEST = {"model": TWO, "prompt": "a cat by the sea", "size": "1024x1024", "quality": "low"}


async def test_generate(client: AsyncOpenAI) -> None:
    """A generation has one marked PNG of the size asked for, and the usage of the published formula."""
    answer = await client.images.generate(model=TWO, prompt="a cat", size="1536x1024", quality="low")
    assert answer.data
    assert len(answer.data) == 1
    image = opened(decoded(answer.data[0].b64_json))
    assert (image.format, image.size, image.mode) == ("PNG", (1536, 1024), "RGB")
    assert "Demo picture" in image.info["Comment"]
    assert (answer.size, answer.quality, answer.background) == ("1536x1024", "low", "opaque")
    assert answer.usage
    assert answer.usage.output_tokens == 158
    assert answer.usage.total_tokens == answer.usage.input_tokens + 158


async def test_the_body_has_the_real_keys_in_the_real_order(http: aiohttp.ClientSession) -> None:
    """`created` first, the rest by the alphabet, base64 in one line without a prefix; headers as OpenAI's."""
    async with http.post("images/generations", json=REQUEST) as answer:
        body: dict[str, Any] = json.loads(await answer.read())
    assert list(body) == ["created", "background", "data", "output_format", "quality", "size", "usage"]
    assert list(body["usage"]) == [
        "input_tokens",
        "input_tokens_details",
        "output_tokens",
        "output_tokens_details",
        "total_tokens",
    ]
    assert type(body["created"]) is int
    assert re.fullmatch(r"[A-Za-z0-9+/]+=*", body["data"][0]["b64_json"])
    assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
    assert {"openai-processing-ms", "openai-version", "x-ratelimit-remaining-requests"} <= {
        name.lower() for name in answer.headers
    }
    usage, rates = usage_from_json(body["usage"]), load_prices({}).rates(TWO)
    assert usage
    assert rates
    assert cost_micros(usage, rates, 1) == 196 * 30 + 4 * 5


async def test_four_pictures_differ_and_come_out_the_same_again(client: AsyncOpenAI) -> None:
    """`n` gives different pictures; the same request gives the same bytes."""
    first, second = [
        await client.images.generate(model=TWO, prompt="a red house", n=4, quality="low") for _ in range(2)
    ]
    assert first.data
    assert second.data
    assert first.usage
    pictures = [item.b64_json for item in first.data]
    assert len(set(pictures)) == 4
    assert pictures == [item.b64_json for item in second.data]
    assert first.usage.output_tokens == 4 * 196


async def test_edit_with_images_and_a_mask(client: AsyncOpenAI) -> None:
    """What the mask leaves opaque stays, what it leaves transparent is repainted."""
    mask = masked((256, 256), (0, 0, 128, 128))
    answer = await client.images.edit(
        model=TWO, image=[BASE, BASE], mask=mask, prompt="a blue night", quality="low"
    )
    assert answer.data
    assert answer.usage
    assert answer.usage.input_tokens_details.image_tokens == 2 * 194
    image = opened(decoded(answer.data[0].b64_json))
    base = opened(BASE).resize(image.size)
    assert difference(image, base, (600, 200, 1000, 600)) < 3
    assert difference(image, base, (20, 100, 480, 480)) > 60


@pytest.mark.parametrize("field", ["image", "image[]"])
async def test_edit_takes_every_spelling_and_json(http: aiohttp.ClientSession, field: str) -> None:
    """`image` once or repeated, `image[]`, and JSON with data URLs are the same request."""
    form = aiohttp.FormData()
    for name in (field, field):
        form.add_field(name, io.BytesIO(BASE), filename="blob")
    for name, value in {"prompt": "teal", "model": TWO, "quality": "low"}.items():
        form.add_field(name, value)
    async with http.post("images/edits", data=form) as answer:
        from_form = await answer.json()
    url = f"data:image/png;base64,{base64.b64encode(BASE).decode()}"
    body = {"prompt": "teal", "model": TWO, "quality": "low", "images": [{"image_url": url}] * 2}
    async with http.post("images/edits", json=body) as answer:
        from_json = await answer.json()
    assert from_form["data"] == from_json["data"]
    assert from_form["usage"] == from_json["usage"]


async def test_markup_repaints_what_is_drawn(client: AsyncOpenAI) -> None:
    """A markup is a mask the other way round, and not both go together."""
    markup = ImageChops.invert(opened(masked((256, 256), (0, 0, 128, 128))).getchannel("A"))
    layer = Image.new("RGBA", (256, 256), (255, 0, 0, 255))
    layer.putalpha(markup)
    options: dict[str, Any] = {"image": BASE, "markup": saved(layer), "prompt": "night", "model": NEWEST}
    answer = await client.images.edit(**options)
    assert answer.data
    image = opened(decoded(answer.data[0].b64_json))
    base = opened(BASE).resize(image.size)
    assert difference(image, base, (600, 200, 1000, 600)) < 3 < difference(image, base, (20, 100, 480, 480))
    with pytest.raises(openai.BadRequestError, match="can't be used together"):
        await client.images.edit(**options, mask=saved(layer))


@pytest.mark.parametrize("partials", [0, 1, 3])
async def test_stream(client: AsyncOpenAI, partials: int) -> None:
    """Partials are counted from 0, differ, and cost 100 tokens each; `completed` comes last."""
    stream = await client.images.generate(
        model=TWO, prompt="a boat", quality="low", stream=True, partial_images=partials
    )
    events = [event async for event in stream]
    assert [event.type for event in events] == [
        *["image_generation.partial_image"] * partials,
        "image_generation.completed",
    ]
    assert len({event.b64_json for event in events}) == partials + 1
    for index, event in enumerate(events[:-1]):
        assert event.type == "image_generation.partial_image"
        assert event.partial_image_index == index
    last = events[-1]
    assert last.type == "image_generation.completed"
    assert last.usage.output_tokens == 196 + 100 * partials
    assert opened(decoded(last.b64_json)).size == (1024, 1024)


async def test_stream_of_an_edit_and_of_several_pictures(
    client: AsyncOpenAI, http: aiohttp.ClientSession
) -> None:
    """Edits have their own event names; n pictures are n completed events, whose usage adds up to the answer's."""
    stream = await client.images.edit(
        model=TWO, image=BASE, prompt="x" * 9, n=2, stream=True, partial_images=1, quality="low"
    )
    events = [event async for event in stream]
    kinds = ["image_edit.partial_image", "image_edit.completed"]
    assert [event.type for event in events] == kinds * 2
    done = [event.usage for event in events if event.type == "image_edit.completed"]
    assert sum(usage.input_tokens for usage in done) == 194 + 3
    assert sum(usage.output_tokens for usage in done) == 2 * 296
    async with http.post("images/generations", json={**REQUEST, "stream": True}) as answer:
        raw = await answer.read()
    assert answer.content_type == "text/event-stream"
    assert re.fullmatch(rb"event: image_generation\.completed\ndata: \{.+\}\n\n", raw)
    assert list(json.loads(raw.split(b"data: ")[1])) == [
        "type",
        "b64_json",
        "created_at",
        "usage",
        "size",
        "quality",
        "background",
        "output_format",
    ]


@pytest.mark.parametrize(
    ("options", "mime"),
    [
        ({"output_format": "png"}, "image/png"),
        ({"output_format": "jpeg", "output_compression": 40}, "image/jpeg"),
        ({"output_format": "webp", "output_compression": 40}, "image/webp"),
        (
            {"output_format": "gif", "frame_count": 3, "frame_duration_ms": 101, "size": "960x960"},
            "image/gif",
        ),
        (
            {"output_format": "svg", "svg": {"model": "gpt-5.5", "reasoning": {"effort": "low"}}},
            "image/svg+xml",
        ),
    ],
)
async def test_formats(client: AsyncOpenAI, options: dict[str, Any], mime: str) -> None:
    """The bytes are what `output_format` says, and each file says that it is a demo picture."""
    answer = await client.images.generate(
        model=NEWEST, prompt='<b>"cats" & dogs</b>', quality="low", **options
    )
    assert answer.data
    assert answer.output_format == options["output_format"]
    data = decoded(answer.data[0].b64_json)
    assert sniff(data) == mime
    assert b"Demo picture" in data
    if mime == "image/svg+xml":
        assert ET.fromstring(data).findtext("{*}title") == '<b>"cats" & dogs</b>'  # noqa: S314 - our own
        assert answer.svg_usage
        assert answer.svg_usage.model == "gpt-5.5"
    else:
        assert f"{dimensions(data)}" == f"({answer.size.replace('x', ', ')})" if answer.size else False
    if mime == "image/gif":
        gif = Image.open(io.BytesIO(data))
        assert (getattr(gif, "n_frames", 1), gif.info["duration"]) == (3, 110)


async def test_compression_and_transparency_are_kept(client: AsyncOpenAI) -> None:
    """Less quality is fewer bytes; a transparent picture has nothing in its corner and something in the middle."""
    sizes = []
    for quality in (10, 90):
        answer = await client.images.generate(
            model=TWO, prompt="a city", output_format="jpeg", output_compression=quality, quality="low"
        )
        assert answer.data
        sizes.append(len(decoded(answer.data[0].b64_json)))
    assert sizes[0] < sizes[1]
    clear = await client.images.generate(model=TWO, prompt="a robot", background="transparent", quality="low")
    assert clear.data
    assert clear.background == "transparent"
    alpha = opened(decoded(clear.data[0].b64_json)).getchannel("A")
    assert alpha.getpixel((0, 0)) == 0
    assert alpha.getpixel((512, 500)) == 255


@pytest.mark.parametrize("size", ["1024x640", "640x1024", "3072x1024", "1040x2000", "3840x2160"])
async def test_any_legal_size(client: AsyncOpenAI, size: str) -> None:
    """Every size within the rules is drawn as asked."""
    answer = await client.images.generate(
        model=TWO, prompt="hills", size=size, output_format="jpeg", quality="low"
    )
    assert answer.data
    assert answer.size == size
    assert opened(decoded(answer.data[0].b64_json)).size == tuple(map(int, size.split("x")))


async def test_auto_and_null_and_defaults(http: aiohttp.ClientSession) -> None:
    """Auto is medium at 1024x1024, opaque; null is not given; the end user's id is echoed."""
    body = {
        "model": TWO,
        "prompt": "x",
        "size": "auto",
        "quality": None,
        "background": "auto",
        "user": "u1",
        "n": None,
    }
    async with http.post("images/generations", json=body) as answer:
        echo = await answer.json()
    assert (echo["size"], echo["quality"], echo["background"]) == ("1024x1024", "medium", "opaque")
    assert (echo["usage"]["output_tokens"], echo["safety_identifier"]) == (1756, "u1")


USER, INVALID = "image_generation_user_error", "invalid_request_error"


@pytest.mark.parametrize(
    ("change", "type_", "code", "param"),
    [
        ({"model": "dall-e-3"}, USER, "invalid_value", "model"),
        ({"model": None}, INVALID, "missing_required_parameter", "model"),
        ({"prompt": None}, INVALID, "missing_required_parameter", "prompt"),
        ({"prompt": ""}, INVALID, "empty_string", "prompt"),
        ({"prompt": "x" * 32_001}, INVALID, "string_above_max_length", "prompt"),
        ({"prompt": 7}, INVALID, "invalid_type", "prompt"),
        ({"size": "1000x1000"}, USER, "invalid_value", "size"),
        ({"size": "4096x2160"}, USER, "invalid_value", "size"),
        ({"size": "big"}, USER, "invalid_value", "size"),
        ({"size": "2048x2048", "model": OLD}, USER, "invalid_value", "size"),
        ({"n": 0}, INVALID, "integer_below_min_value", "n"),
        ({"n": 11}, INVALID, "integer_above_max_value", "n"),
        ({"n": "2"}, INVALID, "invalid_type", "n"),
        ({"quality": "xhigh"}, INVALID, "invalid_value", "quality"),
        ({"quality": "hd"}, INVALID, "invalid_value", "quality"),
        ({"response_format": "b64_json"}, INVALID, "unknown_parameter", "response_format"),
        ({"style": "vivid"}, INVALID, "unknown_parameter", "style"),
        ({"seed": 4}, INVALID, "unknown_parameter", "seed"),
        ({"image": "x"}, INVALID, "unknown_parameter", "image"),
        ({"background": "transparent", "output_format": "jpeg"}, USER, "invalid_value", "background"),
        ({"output_compression": 50}, USER, "invalid_value", "output_compression"),
        ({"partial_images": 4, "stream": True}, INVALID, "integer_above_max_value", "partial_images"),
        ({"output_format": "gif"}, USER, "invalid_value", "output_format"),
        (
            {"output_format": "gif", "model": NEWEST, "size": "auto", "stream": True},
            USER,
            "invalid_value",
            "stream",
        ),
        ({"output_format": "gif", "model": NEWEST}, USER, "invalid_value", "size"),
        ({"output_format": "svg", "model": NEWEST, "n": 2}, USER, "invalid_value", "n"),
        ({"output_format": "svg", "model": NEWEST, "stream": True}, USER, "invalid_value", "stream"),
        ({"svg": {}, "output_format": "svg"}, INVALID, "missing_required_parameter", "svg.model"),
        ({"frame_count": 4}, USER, "invalid_value", "frame_count"),
        ({"complexity": "low"}, USER, "invalid_value", "complexity"),
        ({"prompt": "a Forbidden cat"}, USER, "moderation_blocked", None),
        ({"prompt": "forbidden late"}, USER, "moderation_blocked", None),
    ],
)
async def test_refusals(
    http: aiohttp.ClientSession, change: dict[str, Any], type_: str, code: str, param: str | None
) -> None:
    """Each fault has the real status, type, code and param, and all four keys."""
    async with http.post("images/generations", json={**REQUEST, **change}) as answer:
        error = (await answer.json())["error"]
    assert answer.status == 400
    assert (error["type"], error["code"], error["param"]) == (type_, code, param)
    assert error["message"]
    if code == "moderation_blocked":
        assert answer.headers["x-request-id"] in error["message"]
        assert set(error["moderation_details"]) == {"moderation_stage", "categories"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"image": b"Example data"}, "invalid_image_file"),
        ({"image": BASE[:200]}, "invalid_image_file"),
        ({"mask": masked((128, 128), (0, 0, 9, 9))}, "invalid_value"),
        ({"mask": BASE}, "invalid_value"),
        ({"image": [BASE] * 17}, "array_above_max_length"),
        ({"input_fidelity": "high"}, "invalid_input_fidelity_model"),
    ],
)
async def test_refused_edits(client: AsyncOpenAI, change: dict[str, Any], code: str) -> None:
    """Unreadable files and overlays that don't fit are told apart."""
    options: dict[str, Any] = {"model": TWO, "image": BASE, "prompt": "x", **change}
    with pytest.raises(openai.BadRequestError) as caught:
        await client.images.edit(**options)
    assert caught.value.code == code


async def test_streams_are_blocked_before_or_within(client: AsyncOpenAI) -> None:
    """A blocked prompt is a 400 before the stream; a blocked picture is an error event inside it."""
    with pytest.raises(openai.BadRequestError):
        await client.images.generate(model=TWO, prompt="forbidden", stream=True)
    stream = await client.images.generate(model=TWO, prompt="forbidden late", stream=True, partial_images=1)
    seen = [(await anext(stream)).type]
    with pytest.raises(openai.APIError) as caught:
        await anext(stream)
    assert (seen, caught.value.code) == (["image_generation.partial_image"], "moderation_blocked")


async def test_keys_and_other_addresses(
    base_url: str, client: AsyncOpenAI, http: aiohttp.ClientSession
) -> None:
    """Any key will do but bad ones; unknown addresses and methods and variations are refused as by OpenAI."""
    async with AsyncOpenAI(base_url=base_url, api_key="sk-bad-key", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as caught:
            await stranger.images.generate(model=TWO, prompt="x")
    assert caught.value.code == "invalid_api_key"
    assert "sk-bad-key" not in caught.value.message
    with pytest.raises(openai.BadRequestError, match="does not exist"), pytest.deprecated_call():
        await client.images.create_variation(image=BASE)
    answers = [
        await http.post("images/generations", data=b"{", headers={"content-type": "application/json"}),
        await http.post("images/generations", data=aiohttp.FormData({"prompt": "x"})),
        await http.get("images/generations"),
        await http.get("nothing"),
        await http.get("models", headers={"authorization": ""}),
    ]
    assert [answer.status for answer in answers] == [400, 415, 405, 404, 401]
    for answer in answers:
        assert list((await answer.json())["error"]) == ["message", "type", "param", "code"]


async def test_models(client: AsyncOpenAI) -> None:
    """The list has every priced model; those that end say when."""
    listed = {model.id: model async for model in await client.models.list()}
    assert list(listed) == load_prices({}).models()
    old = (await client.models.retrieve(OLD)).model_dump()
    assert (old["object"], old["shutdown_date"]) == ("model", "2026-12-01")
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("dall-e-3")


async def test_pace_is_kept() -> None:
    """With a pace, pictures take their time, partials first."""
    async with (
        demo_upstream(pace=0.2) as url,
        AsyncOpenAI(base_url=url, api_key="sk", max_retries=0) as sdk,
        asyncio.timeout(5),
    ):
        started = time.monotonic()
        stream = await sdk.images.generate(
            model=TWO, prompt="x", quality="low", stream=True, partial_images=1
        )
        times = [time.monotonic() - started async for _ in stream]
    assert 0.18 < times[0] < times[1]
    assert times[1] > 0.38
