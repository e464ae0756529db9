"""Checks a request's fields against the API's rules and makes an `Order` of them."""

from __future__ import annotations

from pixie_proxy.pricing import parse_size, size_fault
from pixie_proxy.upstream.demo.fields import Fields, choice, flag, integer, nested, typed, unfit, wrong_type
from pixie_proxy.upstream.demo.inputs import Files, pixels, read_inputs
from pixie_proxy.upstream.demo.order import Kind, Order
from pixie_proxy.upstream.demo.refusal import USER_FAULT, Refusal

MAX_PROMPT_CHARACTERS = 32_000


_COMMON = frozenset({
    "prompt", "model", "n", "size", "quality", "background", "output_format", "output_compression", "stream",
    "partial_images", "moderation", "complexity", "frame_count", "frame_duration_ms", "svg",
    "safety_identifier", "user",
})  # fmt: skip

_EDIT_ONLY = frozenset({"image", "images", "mask", "markup", "input_fidelity"})

_NAMED_SIZES = ("1024x1024", "1024x1536", "1536x1024")

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

_GIF_EDGES = {9: 960, 12: 816, 16: 720}

_MAX_FRAME_MS = 655_350


def read_order(kind: Kind, fields: Fields, files: Files, models: frozenset[str], *, is_form: bool) -> Order:
    """Check everything, as strictly as the service does. Raises Refusal.

    A form's values are all text; `files` are its file parts by name. Slow where images come along: use a thread.
    """
    fields = typed(nested(fields)) if is_form else {**fields}
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
    frames = integer(fields, "frame_count", 2, 16, 9)
    background = choice(fields, "background", ("transparent", "opaque", "auto"), "auto")
    choice(fields, "moderation", ("auto", "low"), "auto")
    _fidelity(fields, family)
    images, mask, markup = read_inputs(kind, fields, files, is_form=is_form)
    order = Order(
        kind=kind,
        model=model,
        prompt=prompt,
        n=integer(fields, "n", 1, 10, 1),
        **_edges(fields, family, frames if output_format == "gif" else None),
        quality=quality,
        background="opaque" if background == "auto" else background,
        output_format=output_format,
        output_compression=integer(fields, "output_compression", 0, 100, 100),
        is_stream=flag(fields, "stream"),
        partial_images=integer(fields, "partial_images", 0, 3, 0),
        safety_identifier=fields.get("safety_identifier") or fields.get("user") or None,
        frame_count=frames,
        frame_duration_ms=-(-integer(fields, "frame_duration_ms", 0, _MAX_FRAME_MS, 200) // 10) * 10,
        svg_model=_svg_model(fields),
        images=images,
        image_pixels=tuple([pixels(data, f"image {number}") for number, data in enumerate(images, 1)]),
        mask=mask,
        markup=markup,
    )
    _check_together(order, fields, family)
    return order


def _prompt(fields: Fields) -> str:
    prompt = fields.get("prompt")
    if prompt is None:
        raise Refusal(
            "Missing required parameter: 'prompt'.", code="missing_required_parameter", param="prompt"
        )
    if not isinstance(prompt, str):
        raise wrong_type("prompt", "a string", prompt)
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
    quality = choice(fields, "quality", tuple(legal), "auto")
    return "medium" if quality == "auto" else quality


def _format(fields: Fields, family: str) -> str:
    name = choice(fields, "output_format", ("png", "jpeg", "webp", "gif", "svg"), "png")
    if (name == "gif" and family != "2.6") or (name == "svg" and not family.startswith("2")):
        raise unfit("output_format", f"'{name}' output is not supported with this model.")
    return name


def _fidelity(fields: Fields, family: str) -> None:
    fidelity = choice(fields, "input_fidelity", ("high", "low"), "")
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
        raise wrong_type("size", "a string", size)
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
        raise wrong_type("svg", "an object", svg)
    for name in svg:
        if name not in {"model", "reasoning"}:
            raise Refusal(f"Unknown parameter: 'svg.{name}'.", code="unknown_parameter", param=f"svg.{name}")
    if not isinstance(svg.get("model"), str) or not svg["model"]:
        raise Refusal(
            "Missing required parameter: 'svg.model'.", code="missing_required_parameter", param="svg.model"
        )
    reasoning = svg.get("reasoning") or {}
    if not isinstance(reasoning, dict):
        raise wrong_type("svg.reasoning", "an object", reasoning)
    choice(
        {"svg.reasoning.effort": reasoning.get("effort") or "medium"}, "svg.reasoning.effort", _EFFORTS, ""
    )
    return str(svg["model"])


def _check_together(order: Order, fields: Fields, family: str) -> None:
    """Check what only a combination makes wrong."""
    kind = order.output_format
    choice(fields, "complexity", ("low", "medium", "high"), "high")
    if order.background == "transparent" and kind not in {"png", "webp"}:
        raise unfit("background", f"Transparent background is not supported for {kind} output.")
    if "output_compression" in fields and order.output_compression < 100 and kind not in {"jpeg", "webp"}:
        raise unfit("output_compression", f"Compression less than 100 is not supported for {kind} output.")
    if "complexity" in fields and family != "2.6":
        raise unfit("complexity", "'complexity' is not supported with this model.")
    if kind != "gif":
        for name in ("frame_count", "frame_duration_ms"):
            if name in fields:
                raise unfit(name, f"'{name}' is only supported for gif output.")
    elif order.mask:
        raise unfit("mask", "A mask is not supported for gif output.")
    if kind != "svg" and order.svg_model:
        raise unfit("svg", "'svg' is only supported for svg output.")
    if kind == "svg" and order.n != 1:
        raise unfit("n", "svg output supports n=1 only.")
    if kind in {"gif", "svg"} and (order.is_stream or order.partial_images):
        raise unfit("stream", f"Streaming is not supported for {kind} output.")
    if order.partial_images and not order.is_stream:
        raise unfit("partial_images", "'partial_images' is only supported with stream=true.")
    if order.markup and family not in {"2.5", "2.6"}:
        raise unfit("markup", "'markup' is not supported with this model.")
