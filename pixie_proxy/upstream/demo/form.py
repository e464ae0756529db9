"""Checks a request's fields against the API's rules and makes an `Order` of them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from pixie_proxy.media import dimensions, sniff
from pixie_proxy.pricing import parse_size, size_fault
from pixie_proxy.upstream.demo.order import Kind, Order
from pixie_proxy.upstream.demo.pictures import open_input
from pixie_proxy.upstream.demo.refusal import USER_FAULT, Refusal

Fields = dict[str, Any]
Files = Mapping[str, list[bytes]]

MAX_PROMPT_CHARACTERS = 32_000
MAX_IMAGES = 16
MAX_FILE_BYTES = 50 * 1024 * 1024
MAX_DATA_URL_CHARACTERS = 20_971_520

_COMMON = frozenset({
    "prompt", "model", "n", "size", "quality", "background", "output_format", "output_compression", "stream",
    "partial_images", "moderation", "complexity", "frame_count", "frame_duration_ms", "svg",
    "safety_identifier", "user",
})  # fmt: skip
_EDIT_ONLY = frozenset({"image", "images", "mask", "markup", "input_fidelity"})
_INTEGERS = ("n", "output_compression", "partial_images", "frame_count", "frame_duration_ms")
_NAMED_SIZES = ("1024x1024", "1024x1536", "1536x1024")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_GIF_EDGES = {9: 960, 12: 816, 16: 720}
_MAX_FRAME_MS = 655_350


def read_order(kind: Kind, fields: Fields, files: Files, models: frozenset[str], *, is_form: bool) -> Order:
    """Check everything, as strictly as the service does. Raises Refusal.

    A form's values are all text; `files` are its file parts by name. Slow where images come along: use a thread.
    """
    fields = _typed(_nested(fields)) if is_form else {**fields}
    fields = {name: value for name, value in fields.items() if value is not None}
    known = _COMMON | _EDIT_ONLY if kind == "edit" else _COMMON
    for name in (*fields, *files):
        if name.removesuffix("[]") not in known:
            raise Refusal(f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
    prompt = _prompt(fields)
    model = _model(fields, models)
    family = _family(model)
    quality = _quality(fields, family)
    output_format = _format(fields, family)
    frames = _integer(fields, "frame_count", 2, 16, 9)
    background = _choice(fields, "background", ("transparent", "opaque", "auto"), "auto")
    _choice(fields, "moderation", ("auto", "low"), "auto")
    _fidelity(fields, family)
    images, mask, markup = _inputs(kind, fields, files, is_form=is_form)
    order = Order(
        kind=kind,
        model=model,
        prompt=prompt,
        n=_integer(fields, "n", 1, 10, 1),
        **_edges(fields, family, frames if output_format == "gif" else None),
        quality=quality,
        background="opaque" if background == "auto" else background,
        output_format=output_format,
        output_compression=_integer(fields, "output_compression", 0, 100, 100),
        is_stream=_flag(fields, "stream"),
        partial_images=_integer(fields, "partial_images", 0, 3, 0),
        safety_identifier=fields.get("safety_identifier") or fields.get("user") or None,
        frame_count=frames,
        frame_duration_ms=-(-_integer(fields, "frame_duration_ms", 0, _MAX_FRAME_MS, 200) // 10) * 10,
        svg_model=_svg_model(fields),
        images=images,
        image_pixels=tuple([_pixels(data, f"image {number}") for number, data in enumerate(images, 1)]),
        mask=mask,
        markup=markup,
    )
    _check_together(order, fields, family)
    return order


def _nested(fields: Fields) -> Fields:
    """Fold `svg[model]` and `svg[reasoning][effort]` into one object, as the SDKs spell it in forms."""
    out: Fields = {}
    for name, value in fields.items():
        if name.startswith("svg[") and name.endswith("]"):
            path = name[4:-1].split("][")
            at = out.setdefault("svg", {})
            for step in path[:-1]:
                at = at.setdefault(step, {})
            at[path[-1]] = value
        else:
            out[name] = value
    return out


def _typed(fields: Fields) -> Fields:
    """Read a form's numbers, flags and nulls out of its texts; what is none stays text and is refused later."""
    out: Fields = {}
    for name, value in fields.items():
        typed = value
        if value == "null" and name != "prompt":
            typed = None
        elif (
            name in _INTEGERS
            and isinstance(value, str)
            and value.removeprefix("-").isdecimal()
            and len(value) < 12
        ):
            typed = int(value)
        elif name == "stream" and value in {"true", "false"}:
            typed = value == "true"
        out[name] = typed
    return out


def _prompt(fields: Fields) -> str:
    prompt = fields.get("prompt")
    if prompt is None:
        raise Refusal(
            "Missing required parameter: 'prompt'.", code="missing_required_parameter", param="prompt"
        )
    if not isinstance(prompt, str):
        raise _wrong_type("prompt", "a string", prompt)
    if not prompt:
        raise Refusal(
            "Invalid 'prompt': empty string. Expected a string with minimum length 1, but got an empty string"
            " instead.",
            code="empty_string",
            param="prompt",
        )
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise Refusal(
            f"Invalid 'prompt': string too long. Expected a string with maximum length {MAX_PROMPT_CHARACTERS},"
            f" but got a string with length {len(prompt)} instead.",
            code="string_above_max_length",
            param="prompt",
        )
    return prompt


def _model(fields: Fields, models: frozenset[str]) -> str:
    model = fields.get("model")
    if model is None:
        raise Refusal("you must provide a model parameter", code="missing_required_parameter", param="model")
    if not isinstance(model, str) or model not in models:
        raise unknown_model(str(model))
    return model


def unknown_model(model: str) -> Refusal:
    """Refuse a model that does not exist (or no longer): on the images paths this is a 400."""
    return Refusal(
        f"The model '{model}' does not exist.", code="invalid_value", param="model", type=USER_FAULT
    )


def _family(model: str) -> str:
    for family in ("2.6", "2.5", "2", "1.5"):
        if model.startswith(f"gpt-image-{family}"):
            return family
    return "mini" if "mini" in model else "1.5"


def _quality(fields: Fields, family: str) -> str:
    legal = ["low", "medium", "high", "auto"]
    if family in {"2.5", "2.6"}:
        legal[3:3] = ["xhigh", "max"]
    quality = _choice(fields, "quality", tuple(legal), "auto")
    return "medium" if quality == "auto" else quality


def _format(fields: Fields, family: str) -> str:
    name = _choice(fields, "output_format", ("png", "jpeg", "webp", "gif", "svg"), "png")
    if (name == "gif" and family != "2.6") or (name == "svg" and not family.startswith("2")):
        raise _unfit("output_format", f"'{name}' output is not supported with this model.")
    return name


def _fidelity(fields: Fields, family: str) -> None:
    fidelity = _choice(fields, "input_fidelity", ("high", "low"), "")
    if fidelity and (family.startswith("2") or (family == "mini" and fidelity == "high")):
        raise Refusal(
            f"The 'input_fidelity' value '{fidelity}' is not supported with this model.",
            code="invalid_input_fidelity_model",
            param="input_fidelity",
            type=USER_FAULT,
        )


def _edges(fields: Fields, family: str, frames: int | None) -> dict[str, int]:
    size = fields.get("size", "auto")
    if not isinstance(size, str):
        raise _wrong_type("size", "a string", size)
    if size == "auto":
        edge = next(edge for most, edge in _GIF_EDGES.items() if frames <= most) if frames else 1024
        return {"width": edge, "height": edge}
    edges = parse_size(size)
    if edges is None or (not family.startswith("2") and size not in _NAMED_SIZES):
        fault = f"Supported values are: {', '.join([repr(name) for name in _NAMED_SIZES])}, and 'auto'."
        raise Refusal(
            f"Invalid value: '{size}'. {fault}", code="invalid_value", param="size", type=USER_FAULT
        )
    width, height = edges
    sheet = edges
    if frames:
        columns, rows = (3, 3) if frames <= 9 else (4, 3) if frames <= 12 else (4, 4)
        sheet = (width * columns, height * rows)
    fault_of_size = size_fault(*sheet)
    if fault_of_size:
        where = f" (the sheet of {frames} frames is {sheet[0]}x{sheet[1]})" if frames else ""
        raise Refusal(
            f"Invalid size '{size}': {fault_of_size}{where}.",
            code="invalid_value",
            param="size",
            type=USER_FAULT,
        )
    return {"width": width, "height": height}


def _svg_model(fields: Fields) -> str | None:
    svg = fields.get("svg")
    if svg is None:
        return None
    if not isinstance(svg, dict):
        raise _wrong_type("svg", "an object", svg)
    for name in svg:
        if name not in {"model", "reasoning"}:
            raise Refusal(f"Unknown parameter: 'svg.{name}'.", code="unknown_parameter", param=f"svg.{name}")
    if not isinstance(svg.get("model"), str) or not svg["model"]:
        raise Refusal(
            "Missing required parameter: 'svg.model'.", code="missing_required_parameter", param="svg.model"
        )
    reasoning = svg.get("reasoning") or {}
    if not isinstance(reasoning, dict):
        raise _wrong_type("svg.reasoning", "an object", reasoning)
    _choice(
        {"svg.reasoning.effort": reasoning.get("effort") or "medium"}, "svg.reasoning.effort", _EFFORTS, ""
    )
    return str(svg["model"])


def _check_together(order: Order, fields: Fields, family: str) -> None:
    """Check what only a combination makes wrong."""
    kind = order.output_format
    _choice(fields, "complexity", ("low", "medium", "high"), "high")
    if order.background == "transparent" and kind not in {"png", "webp"}:
        raise _unfit("background", f"Transparent background is not supported for {kind} output.")
    if "output_compression" in fields and order.output_compression < 100 and kind not in {"jpeg", "webp"}:
        raise _unfit("output_compression", f"Compression less than 100 is not supported for {kind} output.")
    if "complexity" in fields and family != "2.6":
        raise _unfit("complexity", "'complexity' is not supported with this model.")
    if kind != "gif":
        for name in ("frame_count", "frame_duration_ms"):
            if name in fields:
                raise _unfit(name, f"'{name}' is only supported for gif output.")
    elif order.mask:
        raise _unfit("mask", "A mask is not supported for gif output.")
    if kind != "svg" and order.svg_model:
        raise _unfit("svg", "'svg' is only supported for svg output.")
    if kind == "svg" and order.n != 1:
        raise _unfit("n", "svg output supports n=1 only.")
    if kind in {"gif", "svg"} and (order.is_stream or order.partial_images):
        raise _unfit("stream", f"Streaming is not supported for {kind} output.")
    if order.partial_images and not order.is_stream:
        raise _unfit("partial_images", "'partial_images' is only supported with stream=true.")
    if order.markup and family not in {"2.5", "2.6"}:
        raise _unfit("markup", "'markup' is not supported with this model.")


def _inputs(
    kind: Kind, fields: Fields, files: Files, *, is_form: bool
) -> tuple[tuple[bytes, ...], bytes | None, bytes | None]:
    """Collect the images, the mask and the markup of an edit, whichever way they came, and look into them."""
    if kind == "generation":
        return (), None, None
    if is_form:
        if "images" in fields or "images" in files:
            raise Refusal("Unknown parameter: 'images'.", code="unknown_parameter", param="images")
        images = [*files.get("image", ()), *files.get("image[]", ())]
        masks, markups = list(files.get("mask", ())), list(files.get("markup", ()))
    else:
        if "image" in fields:
            raise Refusal("Unknown parameter: 'image'.", code="unknown_parameter", param="image")
        refs = fields.get("images", [])
        if not isinstance(refs, list):
            raise _wrong_type("images", "an array of objects", refs)
        images = [_from_ref(ref, f"images[{index}]") for index, ref in enumerate(refs)]
        masks = [_from_ref(fields["mask"], "mask")] if "mask" in fields else []
        markups = [_from_ref(fields["markup"], "markup")] if "markup" in fields else []
    param = "image" if is_form else "images"
    if not images:
        raise Refusal(
            f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param
        )
    if len(images) > MAX_IMAGES:
        raise Refusal(
            f"Invalid '{param}': array too long. Expected an array with maximum length {MAX_IMAGES}, but got an"
            f" array with length {len(images)} instead.",
            code="array_above_max_length",
            param=param,
        )
    if masks and markups:
        raise _unfit("markup", "'markup' and 'mask' can't be used together.")
    first = _pixels(images[0], "image 1")
    for name, data in (("mask", masks), ("markup", markups)):
        if data:
            _check_overlay(name, data[0], first)
    return tuple(images), next(iter(masks), None), next(iter(markups), None)


def _from_ref(ref: Any, param: str) -> bytes:
    """Read one image reference of a JSON edit: data URLs only, the demo fetches nothing and has no files."""
    if (
        not isinstance(ref, dict)
        or len(ref) != 1
        or not isinstance(ref.get("image_url", ref.get("file_id")), str)
    ):
        raise Refusal(
            f"Invalid '{param}': expected exactly one of 'image_url' and 'file_id'.",
            code="invalid_value",
            param=param,
        )
    url = ref.get("image_url", "")
    head, comma, text = url.partition(",")
    if (
        comma
        and head.startswith("data:")
        and head.endswith(";base64")
        and len(url) <= MAX_DATA_URL_CHARACTERS
    ):
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            pass
    raise Refusal(
        f"Invalid '{param}': the demo upstream reads data URLs only.", code="invalid_value", param=param
    )


def _pixels(data: bytes, name: str) -> tuple[int, int]:
    found = dimensions(data)
    if (
        found is None
        or len(data) > MAX_FILE_BYTES
        or sniff(data) not in {"image/png", "image/jpeg", "image/webp"}
    ):
        raise _unreadable(name)
    try:
        open_input(data).load()
    except (OSError, ValueError, SyntaxError):
        raise _unreadable(name) from None
    return found


def _check_overlay(name: str, data: bytes, first: tuple[int, int]) -> None:
    if sniff(data) != "image/png":
        raise _unreadable(name)
    if _pixels(data, name) != first:
        raise _unfit(name, f"Invalid {name}: its size must match the first image's.")
    if not open_input(data).has_transparency_data:
        raise _unfit(name, f"Invalid {name}: it has no alpha channel.")


def _unreadable(name: str) -> Refusal:
    return Refusal(
        f"Invalid image file or mode for {name}, please check your image file.",
        code="invalid_image_file",
        type=USER_FAULT,
    )


def _unfit(param: str, message: str) -> Refusal:
    return Refusal(message, code="invalid_value", param=param, type=USER_FAULT)


def _choice(fields: Fields, name: str, legal: tuple[str, ...], default: str) -> str:
    value = fields.get(name, default)
    if value == default or value in legal:
        return str(value)
    if not isinstance(value, str):
        raise _wrong_type(name, f"one of {', '.join([repr(one) for one in legal])}", value)
    named = [f"'{one}'" for one in legal]
    raise Refusal(
        f"Invalid value: '{value}'. Supported values are: {', '.join(named[:-1])}, and {named[-1]}.",
        code="invalid_value",
        param=name,
    )


def _integer(fields: Fields, name: str, least: int, most: int, default: int) -> int:
    value = fields.get(name, default)
    if type(value) is not int:
        raise _wrong_type(name, "an integer", value)
    if value > most:
        raise Refusal(
            f"Invalid '{name}': integer above maximum value. Expected a value <= {most}, but got {value} instead.",
            code="integer_above_max_value",
            param=name,
        )
    if value < least:
        raise Refusal(
            f"Invalid '{name}': integer below minimum value. Expected a value >= {least}, but got {value} instead.",
            code="integer_below_min_value",
            param=name,
        )
    return value


def _flag(fields: Fields, name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise _wrong_type(name, "a boolean", value)
    return value


def _wrong_type(name: str, wanted: str, value: Any) -> Refusal:
    words = {
        str: "a string",
        int: "an integer",
        float: "a decimal number",
        bool: "a boolean",
        list: "an array",
    }
    got = words.get(type(value), "an object")
    return Refusal(
        f"Invalid type for '{name}': expected {wanted}, but got {got} instead.",
        code="invalid_type",
        param=name,
    )
