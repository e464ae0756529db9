"""The calls that an image's page gives to copy: run for real, they ask the upstream for just what was asked for."""

from __future__ import annotations

import asyncio
import html
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from playwright._impl._driver import compute_driver_executable

from tests.conftest import require
from tests.support.pictures import png, webp
from tests.support.proxy import MEMBER_KEY, OTHER_KEY, RunningProxy
from tests.support.upstream import Received, ScriptedUpstream, image_json
from tests.web.browsing import make, sign_in
from tests.web.calling import ended, post_form
from tests.web.conftest import ProxyWith

HOSTILE = "@it's \"50 %\" off; `id` $HOME $(id) \\n {x} 漢字 🦊\nsecond <line> '''"
STUB = """
export default class OpenAI {
  images = { generate: (asked) => this.said("generate", asked), edit: (asked) => this.said("edit", asked) };
  said(name, asked) {
    console.log(JSON.stringify([name, asked]));
    return { data: [{ b64_json: "cGl4aWU=" }] };
  }
}
export const toFile = async (data, name) => ({ name, size: data.length });
"""
"""In place of OpenAI's package for Node, which is not here: tells what it was asked."""


async def snippet(proxy: RunningProxy, image_id: str, name: str, key: str = MEMBER_KEY) -> str:
    """Read one as it stands on the page."""
    _, _, page = await (await sign_in(proxy, key)).get(f"/images/{image_id}")
    found = re.search(rf'<code id="code-{name}">(.*?)</code>', page, re.DOTALL)
    assert found
    assert key not in found[1]
    return html.unescape(found[1])


async def run(proxy: RunningProxy, folder: Path, *command: str, key: str = MEMBER_KEY) -> str:
    """Run a program with the two variables set, in a folder of its own."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, "OPENAI_BASE_URL": f"{proxy.url}/v1", "OPENAI_API_KEY": key},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    await ended(proxy)
    return out.decode()


async def run_node(proxy: RunningProxy, folder: Path, code: str) -> list[Any]:
    """Run a snippet for Node, and give what it asked the package for: the method and its arguments."""
    package = folder / "node_modules" / "openai"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"type": "module", "main": "index.js"}')
    (package / "index.js").write_text(STUB)
    (folder / "snippet.mjs").write_text(code)
    node, _ = compute_driver_executable()
    said: list[Any] = json.loads(await run(proxy, folder, str(node), "snippet.mjs"))
    return said


def asked_of(request: Received) -> tuple[dict[str, str], list[str]]:
    """Give the fields of a form, and the digests of its files."""
    texts = {part.name: (part.data or b"").decode() for part in request.parts if part.filename is None}
    return texts, [part.sha256 for part in request.parts if part.filename is not None]


async def test_a_generation_is_asked_for_again(
    proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """By curl and by the Python SDK with the body of before, by Node with its fields; whatever stands in the prompt."""
    upstream.default(image_json(2))
    fields: dict[str, Any] = {"n": 2, "size": "1024x1024", "quality": "high", "output_compression": 80}
    more = {"seed": 7, "svg": {"is_fine": True, "of": [1, None]}}
    image_id, _ = await make(proxy, HOSTILE, **fields, extra_body=more)
    wanted = {"model": "gpt-image-2", "prompt": HOSTILE, **fields, **more}
    assert upstream.requests[-1].json() == wanted
    await run(proxy, tmp_path, require("bash"), "-c", await snippet(proxy, image_id, "curl"))
    assert upstream.requests[-1].json() == wanted
    assert b'"b64_json"' in (tmp_path / "answer.json").read_bytes()
    await run(proxy, tmp_path, sys.executable, "-c", await snippet(proxy, image_id, "python"))
    assert upstream.requests[-1].json() == wanted
    assert (tmp_path / "image-1.png").read_bytes().startswith(b"\x89PNG")
    assert len(upstream.requests) == 3
    said = await run_node(proxy, tmp_path, await snippet(proxy, image_id, "node"))
    assert said == ["generate", wanted]
    assert (tmp_path / "image-0.png").read_bytes() == b"pixie"


async def test_an_edit_is_asked_for_again_with_its_inputs(
    proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """The images that it was made from are fetched from the gallery, in their order; texts stay texts."""
    parents = []
    for picture in (webp(64, 48, seed=1), png(64, 48, seed=2)):
        upstream.script(image_json([picture]))
        parents.append((await make(proxy))[0])
    upstream.default(image_json(1))
    parts = (
        ("prompt", HOSTILE.replace("\n", " ").encode()),
        ("model", b"gpt-image-2"),
        ("n", b"1"),
        ("quality", b"low"),
        ("svg[model]", b"none"),
        ("image[]", webp(64, 48, seed=1), "a.webp"),
        ("image[]", png(64, 48, seed=2), "b.png"),
    )
    assert (await post_form(proxy, *parts))[0] == 200
    await ended(proxy)
    wanted = asked_of(upstream.requests[-1])
    assert len(wanted[1]) == 2
    (image_id,) = [image["id"] for image in (await proxy.get("/v1/images?limit=1"))["data"]]
    await run(proxy, tmp_path, require("bash"), "-c", await snippet(proxy, image_id, "curl"))
    assert asked_of(upstream.requests[-1]) == wanted
    await run(proxy, tmp_path, sys.executable, "-c", await snippet(proxy, image_id, "python"))
    assert asked_of(upstream.requests[-1]) == wanted
    assert len(upstream.requests) == 5
    method, asked = await run_node(proxy, tmp_path, await snippet(proxy, image_id, "node"))
    files = [tmp_path / f"{parent}.{kind}" for parent, kind in zip(parents, ("webp", "png"), strict=True)]
    assert method == "edit"
    assert asked.pop("image") == [{"name": file.name, "size": file.stat().st_size} for file in files]
    assert {name: str(value) for name, value in asked.items()} == wanted[0]


async def test_an_input_that_one_may_not_see_is_named_nowhere(
    proxy_with: ProxyWith, upstream: ScriptedUpstream
) -> None:
    """A snippet for somebody else names a file of their own instead."""
    proxy = await proxy_with()
    upstream.default(image_json([png(64, 48)]))
    (parent,) = await make(proxy)
    await proxy.request("POST", f"/v1/images/{parent}", json={"visibility": "private"})
    parts = (("prompt", b"more"), ("image", png(64, 48), "a.png"))
    assert (await post_form(proxy, *parts))[0] == 200
    await ended(proxy)
    (image_id,) = [image["id"] for image in (await proxy.get("/v1/images?limit=1"))["data"]]
    for name in ("curl", "python", "node"):
        assert parent in await snippet(proxy, image_id, name)
        theirs = await snippet(proxy, image_id, name, OTHER_KEY)
        assert parent not in theirs
        assert "input.png" in theirs
