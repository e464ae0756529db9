"""What a client asks for, checked and canonical: an `ImageRequest` from JSON or from a form.

We check only what we must know: prompt, n, stream, partial_images, response_format, sizes and counts. The rest is the
upstream's to judge, and every field, known or not, is sent on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson

from pixie_proxy.errors import InvalidBody, InvalidValue, MissingParameter
from pixie_proxy.records import Kind
from pixie_proxy.upstream import FilePart, TextPart, UpstreamRequest

ResponseFormat = Literal["url", "b64_json"]

PATHS: Mapping[Kind, str] = {
    "generation": "/images/generations",
    "edit": "/images/edits",
    "variation": "/images/variations",
}
MAX_IMAGES = 10
MAX_PARTIAL_IMAGES = 3

_SCALARS = frozenset(
    {
        "prompt",
        "model",
        "n",
        "size",
        "quality",
        "stream",
        "partial_images",
        "response_format",
        "output_format",
        "svg[model]",
    }
)
"""Fields of a form that may come once only: which of two values counts would be for each server to choose."""

_NOT_PARAMS = frozenset({"prompt", "model", "stream", "response_format", "images", "image", "mask", "user"})
"""Fields that have a column of their own, are no parameter of the picture, or are as large as one."""

_INPUTS = ("image", "images", "mask", "markup")
"""Fields that bring a picture along: a reference, a list of them, or a text that the upstream may take for one."""

_MAX_PARAM_CHARACTERS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """One call as its client means it. `fields` is the JSON body, or the text parts of a form read as text.

    `n`, `stream` and `partial_images` are read from them; `response_format` is ours and never forwarded as it came.
    """

    kind: Kind
    fields: Mapping[str, Any]
    texts: tuple[TextPart, ...] | None
    files: tuple[FilePart, ...]
    model: str | None
    prompt: str | None
    n: int
    is_stream: bool
    partial_images: int
    response_format: ResponseFormat | None

    @classmethod
    def from_json(cls, kind: Kind, body: bytes, *, allow_file_id: bool) -> ImageRequest:
        """Read a JSON body. orjson takes the last of two equal names, and only that one is sent on."""
        try:
            fields = orjson.loads(body)
        except orjson.JSONDecodeError as exc:
            message = f"The body is not valid JSON: {exc}"
            raise InvalidBody(message) from None
        if not isinstance(fields, dict):
            message = f"The body must be a JSON object, not {_type_name(fields)}."
            raise InvalidBody(message)
        if not allow_file_id:
            _refuse_file_ids(fields)
        return cls._checked(kind, fields, None, ())

    @classmethod
    def from_form(
        cls, kind: Kind, texts: Iterable[TextPart], files: Iterable[FilePart], *, allow_file_id: bool
    ) -> ImageRequest:
        """Read a form whose files are on disk."""
        texts = tuple(texts)
        fields: dict[str, Any] = {}
        for part in texts:
            if part.name in fields and part.name in _SCALARS:
                message = f"'{part.name}' is given twice."
                raise InvalidValue(message, param=part.name)
            if "file_id" in part.name and not allow_file_id:
                raise _file_id_refused(part.name)
            try:
                fields[part.name] = part.value.decode()
            except UnicodeDecodeError:
                message = f"'{part.name}' is not UTF-8 text."
                raise InvalidValue(message, param=part.name) from None
        return cls._checked(kind, fields, texts, tuple(files))

    @classmethod
    def _checked(
        cls,
        kind: Kind,
        fields: dict[str, Any],
        texts: tuple[TextPart, ...] | None,
        files: tuple[FilePart, ...],
    ) -> ImageRequest:
        is_form = texts is not None
        return cls(
            kind=kind,
            fields=fields,
            texts=texts,
            files=files,
            model=_text(fields, "model"),
            prompt=_prompt(fields, kind),
            n=_integer(fields, "n", 1, MAX_IMAGES, is_form=is_form) or 1,
            is_stream=_boolean(fields, "stream", is_form=is_form),
            partial_images=_integer(fields, "partial_images", 0, MAX_PARTIAL_IMAGES, is_form=is_form) or 0,
            response_format=_response_format(fields),
        )

    @property
    def inputs(self) -> int:
        """Count the images that are sent along, mask and markup too."""
        if self.texts is not None:
            names = [*[text.name for text in self.texts], *[file.name for file in self.files]]
            return sum([name.startswith(_INPUTS) for name in names])
        refs = [self.fields.get(name) for name in _INPUTS]
        return sum([len(ref) if isinstance(ref, list) else ref is not None for ref in refs])

    @property
    def svg_author(self) -> str | None:
        """Name the text model that is to write an SVG: None if none is wanted, empty if nobody said which."""
        if self.fields.get("output_format") != "svg" and not any(
            name.startswith("svg") and value is not None for name, value in self.fields.items()
        ):
            return None
        svg = self.fields.get("svg")
        author = svg.get("model") if isinstance(svg, dict) else self.fields.get("svg[model]")
        return author if isinstance(author, str) else ""

    def with_fields(self, changed: Mapping[str, str | None]) -> ImageRequest:
        """Give the same request with some of its fields in other words; None leaves one out."""
        fields = {name: changed.get(name, value) for name, value in self.fields.items()}
        texts = self.texts
        if texts is not None:
            texts = tuple(
                part if part.name not in changed else replace(part, value=(changed[part.name] or "").encode())
                for part in texts
                if changed.get(part.name, "") is not None
            )
        fields = {name: value for name, value in fields.items() if changed.get(name, "") is not None}
        return replace(self, fields=fields, texts=texts)

    def params(self) -> dict[str, Any]:
        """Give what describes the picture, for the ledger: no prompt, no image data, nothing long."""
        return {
            name: value
            for name, value in self.fields.items()
            if name not in _NOT_PARAMS and value is not None and _is_short(value)
        }

    def fingerprint(self, user_id: str, model: str) -> str:
        """Digest what was asked for and by whom; equal for every retry, whatever its boundary or key order."""
        digest = hashlib.sha256()
        fields = {**self.fields, "model": model}
        files = [(file.name, file.sha256) for file in self.files]
        said = [user_id, self.kind, fields, self._repeatable_texts(), files]
        digest.update(_dumps(said, orjson.OPT_SORT_KEYS))
        return digest.hexdigest()

    def _repeatable_texts(self) -> list[tuple[str, str]] | None:
        """List the texts that may come more than once, of which `fields` has only the last; None if this is no form."""
        if self.texts is None:
            return None
        pairs = [(part.name, part.value.decode()) for part in self.texts if part.name not in _SCALARS]
        return sorted(pairs, key=lambda pair: pair[0])

    def to_upstream(
        self, request_id: str, model: str, response_format: ResponseFormat | None
    ) -> UpstreamRequest:
        """Rebuild the call for the upstream, under the model that was priced; None drops `response_format`."""
        path = PATHS[self.kind]
        if self.texts is None:
            fields = {**self.fields, "model": model, "response_format": response_format}
            if response_format is None:
                del fields["response_format"]
            return UpstreamRequest(
                path=path, request_id=request_id, model=model, images=self.n, json=_dumps(fields)
            )
        kept = [part for part in self.texts if part.name not in {"model", "response_format"}]
        kept.append(TextPart(name="model", value=model.encode()))
        if response_format is not None:
            kept.append(TextPart(name="response_format", value=response_format.encode()))
        return UpstreamRequest(
            path=path, request_id=request_id, model=model, images=self.n, form=(*kept, *self.files)
        )


def _prompt(fields: Mapping[str, Any], kind: Kind) -> str | None:
    prompt = fields.get("prompt")
    if prompt is None:
        if kind == "variation":
            return None
        message = "Missing required parameter: 'prompt'."
        raise MissingParameter(message, param="prompt")
    if not isinstance(prompt, str):
        message = f"'prompt' must be text, not {_type_name(prompt)}."
        raise InvalidValue(message, param="prompt")
    if not prompt.strip() and kind != "variation":
        message = "'prompt' is empty: say what the image should show."
        raise InvalidValue(message, param="prompt")
    return prompt


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        message = f"'{name}' must be text, not {_type_name(value)}."
        raise InvalidValue(message, param=name)
    return None if value == "null" else value


def _integer(fields: Mapping[str, Any], name: str, least: int, most: int, *, is_form: bool) -> int | None:
    value = fields.get(name)
    if value is None or (is_form and value in {"", "null"}):
        return None
    if is_form and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        message = f"'{name}' must be an integer from {least} to {most}."
        raise InvalidValue(message, param=name)
    return value


def _boolean(fields: Mapping[str, Any], name: str, *, is_form: bool) -> bool:
    value = fields.get(name)
    if is_form and isinstance(value, str):
        value = {"true": True, "false": False, "": None, "null": None}.get(value.lower(), value)
    if value is None:
        return False
    if not isinstance(value, bool):
        message = f"'{name}' must be true or false."
        raise InvalidValue(message, param=name)
    return value


def _response_format(fields: Mapping[str, Any]) -> ResponseFormat | None:
    match fields.get("response_format"):
        case None | "" | "null":
            return None
        case "url":
            return "url"
        case "b64_json":
            return "b64_json"
    message = "'response_format' must be 'url' or 'b64_json'."
    raise InvalidValue(message, param="response_format")


def _refuse_file_ids(fields: Mapping[str, Any]) -> None:
    """Refuse references into the operator's own files, wherever an image reference may stand."""
    for name, value in fields.items():
        refs = value if isinstance(value, list) else [value]
        if any(isinstance(ref, dict) and ref.get("file_id") is not None for ref in refs):
            raise _file_id_refused(name)


def _file_id_refused(param: str) -> InvalidValue:
    message = (
        "'file_id' names a file of the operator's own account, so this proxy does not take it. "
        "Send the image itself: a file in a form, or a data: URL as 'image_url'."
    )
    return InvalidValue(message, param=param)


def _dumps(value: Any, option: int | None = None) -> bytes:
    """Write JSON. What can be read may be nested too deeply to be written, and then can't be sent on."""
    try:
        return orjson.dumps(value, option=option)
    except orjson.JSONEncodeError:
        message = "The body is nested too deeply to be sent on."
        raise InvalidBody(message) from None


def _is_short(value: Any) -> bool:
    return len(value if isinstance(value, str) else _dumps(value)) <= _MAX_PARAM_CHARACTERS


def _type_name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
