"""Write the call that made an image, for people to copy: as JSON, for curl, and for OpenAI's SDKs.

None of them holds a key: base URL and key are read from `OPENAI_BASE_URL` and `OPENAI_API_KEY`. What an edit was given
is fetched from the gallery first, as far as the reader may see it; a call whose inputs are unknown names `input.png`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pixie_proxy.media import EXTENSIONS
from pixie_proxy.records import ImageRecord, Kind
from pixie_proxy.relay.request import PATHS

_METHODS: dict[Kind, str] = {"generation": "generate", "edit": "edit", "variation": "create_variation"}
_IN_STREAMS = frozenset({"partial_images"})
"""What only a call means that streams, and these do not."""
_NUMBERS = frozenset({"n", "output_compression"})
"""What a form tells as text, and an SDK wants as a number."""
_KNOWN: dict[Kind, frozenset[str]] = {
    "generation": frozenset(
        {"background", "model", "moderation", "n", "output_compression", "output_format", "prompt", "quality"}
        | {"size", "style"}
    ),
    "edit": frozenset(
        {"background", "input_fidelity", "model", "n", "output_compression", "output_format", "prompt"}
        | {"quality", "size"}
    ),
    "variation": frozenset({"model", "n", "size"}),
}
"""The parameters that OpenAI's Python SDK has names for; all others go into its `extra_body`."""
_UNKNOWN_INPUT = "input.png"


class Snippet(NamedTuple):
    """A text to copy. `name` is a short word for it in addresses and texts."""

    name: str
    text: str


def snippets(record: ImageRecord, parents: Sequence[ImageRecord]) -> list[Snippet]:
    """Write them all. `parents` are the images that the call was given, as far as the reader may see them."""
    asked = parameters(record)
    return [
        Snippet("curl", _curl(record.kind, asked, parents)),
        Snippet("python", _python(record, asked, parents)),
        Snippet("node", _node(record, asked, parents)),
        Snippet("json", json.dumps(asked, ensure_ascii=False, indent=2)),
    ]


def parameters(record: ImageRecord) -> dict[str, Any]:
    """Give what was asked for, as a JSON body says it."""
    asked: dict[str, Any] = {"model": record.model}
    if record.prompt is not None:
        asked["prompt"] = record.prompt
    for name, value in record.params.items():
        if name not in _IN_STREAMS and value is not None:
            asked[name] = int(value) if name in _NUMBERS and str(value).isdecimal() else value
    return asked


def _curl(kind: Kind, asked: dict[str, Any], parents: Sequence[ImageRecord]) -> str:
    address = f'"$OPENAI_BASE_URL{PATHS[kind]}"'
    key = '-H "Authorization: Bearer $OPENAI_API_KEY"'
    if kind == "generation":
        body = shlex.quote(json.dumps(asked, ensure_ascii=False, indent=2))
        return _lines(
            f"curl {address}", key, '-H "Content-Type: application/json"', f"-d {body}", "-o answer.json"
        )
    fetched = [
        _lines(f'curl -L "$OPENAI_BASE_URL/images/{parent.id}/content"', key, f"-o {_file(parent)}")
        for parent in parents
    ]
    # --form-string: a text that begins with @ or < is a text
    texts = [f"--form-string {shlex.quote(f'{name}={value}')}" for name, value in _flat(asked)]
    field = "image[]" if kind == "edit" else "image"
    files = [f"-F {shlex.quote(f'{field}=@{file}')}" for file in _files(parents)]
    return "\n".join([*fetched, _lines(f"curl {address}", key, *texts, *files, "-o answer.json")])


def _python(record: ImageRecord, asked: dict[str, Any], parents: Sequence[ImageRecord]) -> str:
    known = _KNOWN[record.kind]
    arguments = [f"{name}={value!r}" for name, value in asked.items() if name in known]
    if more := {name: value for name, value in asked.items() if name not in known}:
        arguments.append(f"extra_body={more!r}")
    head = ["import base64", "from pathlib import Path", "", "from openai import OpenAI", ""]
    body = ["client = OpenAI()  # reads OPENAI_BASE_URL and OPENAI_API_KEY"]
    if record.kind != "generation":
        if parents:
            head[3] = "from openai import HttpxBinaryResponseContent, OpenAI"
            body += [
                f'content = client.get("/images/{parent.id}/content", cast_to=HttpxBinaryResponseContent)\n'
                f'Path("{_file(parent)}").write_bytes(content.content)'
                for parent in parents
            ]
        files = [f'Path("{file}")' for file in _files(parents)]
        arguments.insert(0, f"image=[{', '.join(files)}]" if record.kind == "edit" else f"image={files[0]}")
    call = f"answer = client.images.{_METHODS[record.kind]}(\n    " + ",\n    ".join(arguments) + ",\n)"
    keep = (
        "for number, image in enumerate(answer.data):\n"
        f'    Path(f"image-{{number}}.{EXTENSIONS[record.mime]}").write_bytes(base64.b64decode(image.b64_json))'
    )
    return "\n".join([*head, *body, call, keep])


def _node(record: ImageRecord, asked: dict[str, Any], parents: Sequence[ImageRecord]) -> str:
    method = {"create_variation": "createVariation"}.get(_METHODS[record.kind], _METHODS[record.kind])
    arguments = [
        f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in asked.items()
    ]
    body = ["const client = new OpenAI(); // reads OPENAI_BASE_URL and OPENAI_API_KEY"]
    imports = ['import { writeFile } from "node:fs/promises";', 'import OpenAI from "openai";', ""]
    if record.kind != "generation":
        imports[0] = 'import { readFile, writeFile } from "node:fs/promises";'
        imports[1] = 'import OpenAI, { toFile } from "openai";'
        body += [
            f'await writeFile("{_file(parent)}", Buffer.from(await (await fetch('
            f"`${{process.env.OPENAI_BASE_URL}}/images/{parent.id}/content`, {{\n"
            "  headers: { Authorization: `Bearer ${process.env.OPENAI_API_KEY}` },\n"
            "})).arrayBuffer()));"
            for parent in parents
        ]
        files = [f'await toFile(await readFile("{file}"), "{file}")' for file in _files(parents)]
        arguments.insert(0, f"image: [{', '.join(files)}]" if record.kind == "edit" else f"image: {files[0]}")
    call = f"const answer = await client.images.{method}({{\n  " + ",\n  ".join(arguments) + ",\n});"
    keep = (
        "for (const [number, image] of answer.data.entries()) {\n"
        f"  await writeFile(`image-${{number}}.{EXTENSIONS[record.mime]}`, "
        'Buffer.from(image.b64_json, "base64"));\n}'
    )
    return "\n".join([*imports, *body, call, keep])


def _lines(*parts: str) -> str:
    return " \\\n  ".join(parts)


def _file(parent: ImageRecord) -> str:
    return f"{parent.id}.{EXTENSIONS[parent.mime]}"


def _files(parents: Sequence[ImageRecord]) -> list[str]:
    return [_file(parent) for parent in parents] or [_UNKNOWN_INPUT]


def _flat(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Write fields as a form has them: `svg[model]` of an object, `tags[]` of a list."""
    for name, value in values.items():
        match value:
            case dict():
                yield from _flat({f"{name}[{inner}]": each for inner, each in value.items()})
            case list():
                yield from ((f"{name}[]", text) for each in value for _, text in _flat({"": each}))
            case str():
                yield name, value
            case _:
                yield name, json.dumps(value)
