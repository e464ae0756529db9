"""POST /v1/images/edits and /v1/images/variations: forms in every shape that clients send, and JSON with refs."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pictures import jpeg, png, webp
from tests.support.proxy import MEMBER_KEY, RunningProxy
from tests.support.upstream import Part, Received, ScriptedUpstream, image_json
from tests.support.waiting import eventually
from tests.web.calling import (
    EDITS,
    FORM_TYPE,
    VARIATIONS,
    AnySdk,
    context_of,
    dial,
    ended,
    error_of,
    files_of,
    form,
    http,
    kept,
    ledger_rows,
    listed,
    post_form,
)

PROMPT = "add a hat\r\nand a scarf – für 猫"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def texts(request: Received) -> dict[str, str]:
    """The text parts of a form; none may come twice."""
    found = [(part.name, (part.data or b"").decode()) for part in request.parts if part.filename is None]
    assert len(dict(found)) == len(found)
    return dict(found)


def files(request: Received) -> list[Part]:
    return [part for part in request.parts if part.filename is not None]


async def test_an_edit_of_one_image(proxy: RunningProxy, upstream: ScriptedUpstream, sdk: AnySdk) -> None:
    """The file reaches the upstream whole and under its name; the result is kept as an edit."""
    picture = png(size_bytes=700_000)
    answer = await sdk.images("edit", model="gpt-image-2", prompt=PROMPT, image=("cat.png", picture))
    (sent,) = upstream.requests
    assert texts(sent) == {"model": "gpt-image-2", "prompt": PROMPT}
    (file,) = files(sent)
    assert (file.name, file.filename, file.content_type, file.sha256) == (
        "image",
        "cat.png",
        "image/png",
        sha256(picture),
    )
    assert await kept(proxy) == files_of(answer) == [png()]
    assert [image["kind"] for image in await listed(proxy)] == ["edit"]


async def test_an_edit_of_several_images_with_a_mask(
    upstream: ScriptedUpstream, sdk: AnySdk, tmp_path: Path
) -> None:
    """Raw bytes, a path and a named file: each keeps its order, its name, its bytes, and gets its true type."""
    (tmp_path / "second.dat").write_bytes(jpeg())
    await sdk.images(
        "edit",
        model="gpt-image-2",
        prompt=PROMPT,
        image=[png(seed=1), tmp_path / "second.dat", ("third.bin", webp(), "application/x-odd")],
        mask=io.BytesIO(png(seed=4)),
        n=2,
        size="1024x1024",
        input_fidelity="high",
    )
    (sent,) = upstream.requests
    told = {"model": "gpt-image-2", "prompt": PROMPT, "n": "2", "size": "1024x1024", "input_fidelity": "high"}
    assert texts(sent) == told
    assert [(part.name, part.filename, part.content_type, part.sha256) for part in files(sent)] == [
        ("image[]", "upload", "image/png", sha256(png(seed=1))),
        ("image[]", "second.dat", "image/jpeg", sha256(jpeg())),
        ("image[]", "third.bin", "image/webp", sha256(webp())),
        ("mask", "upload", "image/png", sha256(png(seed=4))),
    ]


async def test_markup_and_nested_fields(upstream: ScriptedUpstream, sdk: AnySdk) -> None:
    """Newer fields pass as the SDK spells them, and so do fields that nobody knows yet."""
    await sdk.images(
        "edit",
        model="gpt-image-2.5-flare",
        prompt=PROMPT,
        image=png(),
        markup=("markup.png", png(seed=9)),
        svg={"model": "gpt-5", "reasoning": {"effort": "low"}},
        user="u-1",
        extra_body={"moderation": "low", "seed": 7},
    )
    (sent,) = upstream.requests
    assert texts(sent) == {
        "model": "gpt-image-2.5-flare",
        "prompt": PROMPT,
        "svg[model]": "gpt-5",
        "svg[reasoning][effort]": "low",
        "user": "u-1",
        "moderation": "low",
        "seed": "7",
    }
    assert [part.name for part in files(sent)] == ["image", "markup"]
    assert files(sent)[1].sha256 == sha256(png(seed=9))


PARTS: tuple[Any, ...] = (
    ("image", png(seed=1), "a.png"),
    ("prompt", PROMPT.encode()),
    ("image", png(seed=2), "b.png"),
    ("model", b"gpt-image-2"),
    ("stream", b"false"),
)


@pytest.mark.parametrize("parts", list(itertools.permutations(PARTS))[::10])
async def test_parts_may_come_in_any_order(
    proxy: RunningProxy, upstream: ScriptedUpstream, parts: tuple[Any, ...]
) -> None:
    """Nothing is decided before the form is whole; the images keep their own order and spelling."""
    status, body = await post_form(proxy, *parts)
    assert status == 200, body
    (sent,) = upstream.requests
    assert texts(sent) == {"model": "gpt-image-2", "prompt": PROMPT, "stream": "false"}
    expected = [(name, sha256(data)) for name, data, *filename in parts if filename]
    assert [(part.name, part.sha256) for part in files(sent)] == expected


async def test_a_form_may_come_in_chunks(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Without a length, as Node's streams come: the upstream gets a length all the same."""
    picture = png(size_bytes=900_001)
    whole = form(("image[]", picture, "a.png"), ("prompt", PROMPT.encode()), ("odd", b""))

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(whole), 77_777):
            yield whole[at : at + 77_777]

    status, _, _ = await proxy.request("POST", EDITS, data=pieces(), headers=FORM_TYPE)
    (sent,) = upstream.requests
    assert status == 200
    assert texts(sent) == {"model": "gpt-image-2", "prompt": PROMPT, "odd": ""}
    assert files(sent)[0].sha256 == sha256(picture)
    assert (sent.header("content-length"), sent.header("transfer-encoding")) == (str(sent.size_bytes), None)


@pytest.mark.parametrize(
    ("filename", "forwarded"),
    [
        ("/home/me/secret/cat.png", "cat.png"),
        ("C:\\\\Users\\\\me\\\\cat.png", "cat.png"),
        ("../../etc/passwd", "passwd"),
        ("..", ".."),
        ("", "upload"),
        ("blob", "blob"),
        ("猫 1.png", "猫 1.png"),
    ],
)
async def test_a_file_name_is_no_path(
    proxy: RunningProxy, upstream: ScriptedUpstream, filename: str, forwarded: str
) -> None:
    """Only its last part is forwarded, and nothing of it touches our disk."""
    status, body = await post_form(proxy, ("image", png(), filename), ("prompt", b"hat"))
    assert status == 200, body
    assert [part.filename for part in files(upstream.requests[0])] == [forwarded]


async def test_json_edits_are_relayed_as_json(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Refs with data URLs or links pass untouched, in the body's own form."""
    data_url = "data:image/png;base64," + base64.b64encode(png(size_bytes=300_000)).decode()
    asked = {
        "model": "gpt-image-2",
        "prompt": PROMPT,
        "images": [{"image_url": data_url}, {"image_url": "https://example.com/cat.png"}],
        "mask": {"image_url": data_url},
        "moderation": "low",
        "unheard_of": [None],
    }
    status, _, _ = await proxy.request("POST", EDITS, json=asked)
    assert (status, upstream.requests[0].json()) == (200, asked)
    (row,) = await ledger_rows(proxy)
    assert row.call.kind == "edit"
    assert row.call.params == {"moderation": "low", "unheard_of": [None]}


@pytest.mark.parametrize("allowed", [False, True])
async def test_file_ids_reach_into_the_operators_files(
    proxy_with: Any, upstream: ScriptedUpstream, allowed: bool
) -> None:
    """A `file_id` is refused, in a list and alone, unless the operator allows it."""
    proxy = await proxy_with(uploads={"allow_file_id": allowed})
    for field in ({"images": [{"file_id": "file-1"}]}, {"images": [], "mask": {"file_id": "file-1"}}):
        status, _, body = await proxy.request("POST", EDITS, json={"prompt": "hat", **field})
        assert (status, b"file_id" in body) == ((200, False) if allowed else (400, True))
    status, _ = await post_form(proxy, ("prompt", b"hat"), ("images[0][file_id]", b"file-1"))
    assert status == (200 if allowed else 400)
    assert len(upstream.requests) == (3 if allowed else 0)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_variations_are_relayed(proxy: RunningProxy, upstream: ScriptedUpstream, sdk: AnySdk) -> None:
    """They need no prompt; what the upstream makes of them is kept."""
    upstream.script(image_json(2))
    answer = await sdk.images("create_variation", image=png(seed=5), n=2, size="512x512", user="u")
    (sent,) = upstream.requests
    assert sent.path == VARIATIONS
    assert texts(sent) == {"model": "gpt-image-2", "n": "2", "size": "512x512", "user": "u"}
    assert files(sent)[0].sha256 == sha256(png(seed=5))
    assert await kept(proxy) == files_of(answer)
    assert [image["kind"] for image in await listed(proxy)] == ["variation"] * 2


async def test_uploads_are_gone_when_a_call_has_ended(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """They stay while the upstream may still want them, whatever the outcome, and no longer."""
    folder, done = context_of(proxy).spool.uploads, asyncio.Event()

    async def hold(exchange: Any) -> None:
        assert len(list(folder.glob("*/0"))) == 1
        await done.wait()

    upstream.script(hold, image_json())
    call = asyncio.create_task(post_form(proxy, ("image", png(), "a.png"), ("prompt", b"hat")))
    await upstream.wait_for_requests(1)
    done.set()
    assert (await call)[0] == 200
    await ended(proxy)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "parts",
    [
        [("image", png(), "a.png"), ("prompt", b"")],
        [("image", png(), "a.png"), ("image", bytes(1_000_001), "b.png"), ("prompt", b"hat")],
    ],
)
async def test_a_refused_form_leaves_no_upload(
    proxy_with: Any, upstream: ScriptedUpstream, parts: list[Any]
) -> None:
    """Whether it is refused half-way or when it is whole."""
    proxy = await proxy_with(uploads={"max_file_mb": 1})
    status, _ = await post_form(proxy, *parts)
    assert status in {400, 413}
    assert list(context_of(proxy).spool.uploads.iterdir()) == []
    assert upstream.requests == []


async def test_a_client_that_drops_its_upload_is_no_error_of_ours(
    proxy: RunningProxy, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is sent, nothing stays, and the log does not cry."""
    whole = form(("prompt", b"hat"), ("image", png(size_bytes=500_000), "a.png"))
    request = http(EDITS, whole, key=MEMBER_KEY, headers=FORM_TYPE)
    folder = context_of(proxy).spool.uploads
    async with dial(proxy.url) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, request[:-100_000])
        await eventually(lambda: len(list(folder.glob("*/0"))) == 1)
    await eventually(lambda: list(folder.iterdir()) == [])
    assert upstream.requests == []
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize(
    "body",
    [
        b"no boundary at all",
        b"--xXx\r\n",
        b"--xXx\r\nContent-Disposition: form-data\r\n\r\nno name\r\n--xXx--\r\n",
        b"--xXx\r\nno header\r\n\r\n\r\n--xXx--\r\n",
        b"--xXx\r\n" + b"A" * 70_000 + b": b\r\n\r\n\r\n--xXx--\r\n",
        b"--xXx\r\n" + b"A: b\r\n" * 5_000 + b"\r\n\r\n--xXx--\r\n",
        form(("prompt", b"hat"), ("image", b"x" * 1000, "a.png"))[:-500],
        form(("prompt", b"hat"), ("image", b"x" * 1000, "a.png"))[:-9],
        form(("prompt", b"hat"), ("image", b"", "a.png")).replace(b"x/y", b"multipart/mixed; boundary=inner"),
        form(("prompt", b"\xff\xfe")),
        form(("prompt", b"hat"), ("prompt", b"another hat")),
        form(("prompt", b"hat"), ("stream", b"maybe")),
        b"",
    ],
)  # fmt: skip
async def test_a_broken_form_is_a_clients_error(
    proxy: RunningProxy, upstream: ScriptedUpstream, body: bytes
) -> None:
    """Never an error of ours, never a call upstream, never half a file taken for a whole one."""
    status, _, answer = await proxy.request("POST", EDITS, data=body, headers=FORM_TYPE)
    assert (status, error_of(answer)["type"]) == (400, "invalid_request_error"), answer
    assert upstream.requests == []


@pytest.mark.parametrize("body", [gzip.compress(b"x" * 2_000_000)[:-900], b"\x1f\x8b\x08 no gzip"])
async def test_a_packed_body_that_is_broken_is_a_clients_error(
    proxy: RunningProxy, upstream: ScriptedUpstream, body: bytes
) -> None:
    """A body may come packed with gzip; what can't be unpacked is answered as one that can't be read."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    status, _, answer = await proxy.request("POST", EDITS, data=body, headers=headers)
    assert (status, error_of(answer)["code"]) == (400, "invalid_body")
    packed = gzip.compress(b'{"prompt":"hat","images":[]}')
    assert (await proxy.request("POST", EDITS, data=packed, headers=headers))[0] == 200
    assert len(upstream.requests) == 1
