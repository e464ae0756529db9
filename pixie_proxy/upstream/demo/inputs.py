"""Collects the pictures of an edit, whichever way they came, and looks into them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from pixie_proxy.media import dimensions, sniff
from pixie_proxy.upstream.demo.fields import Fields, unfit, wrong_type
from pixie_proxy.upstream.demo.order import Kind
from pixie_proxy.upstream.demo.pictures import open_input
from pixie_proxy.upstream.demo.refusal import USER_FAULT, Refusal

Files = Mapping[str, list[bytes]]

MAX_IMAGES = 16

MAX_FILE_BYTES = 50 * 1024 * 1024

MAX_DATA_URL_CHARACTERS = 20_971_520


def read_inputs(
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
            raise wrong_type("images", "an array of objects", refs)
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
        raise unfit("markup", "'markup' and 'mask' can't be used together.")
    first = pixels(images[0], "image 1")
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


def pixels(data: bytes, name: str) -> tuple[int, int]:
    """Give width and height of an input image, which is read whole. Raises Refusal."""
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
    if pixels(data, name) != first:
        raise unfit(name, f"Invalid {name}: its size must match the first image's.")
    if not open_input(data).has_transparency_data:
        raise unfit(name, f"Invalid {name}: it has no alpha channel.")


def _unreadable(name: str) -> Refusal:
    return Refusal(
        f"Invalid image file or mode for {name}, please check your image file.",
        code="invalid_image_file",
        type=USER_FAULT,
    )
