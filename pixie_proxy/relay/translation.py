"""Says in today's words what the client of a retired model asks for.

Only a call that names a model which was shut down (or is about to be) and reaches another one through an alias is
translated: it can't mean anything else. Whoever names a real model is answered by that model itself.
"""

from __future__ import annotations

from pixie_proxy.pricing import Family, Prices
from pixie_proxy.relay.request import ImageRequest

HEADER = "x-pixie-translated"

_QUALITIES = {"standard": "medium", "hd": "high"}
_SIZES = {
    "256x256": "1024x1024",
    "512x512": "1024x1024",
    "1792x1024": "1536x1024",
    "1024x1792": "1024x1536",
}
"""The sizes of DALL·E, and the nearest that every model since has. Where one is legal as it is, it stays."""


def translate(asked: ImageRequest, model: str, prices: Prices) -> tuple[ImageRequest, dict[str, str]]:
    """Give the request that `model` is sent, and the header that says what was changed, if anything was."""
    name, family = asked.model, prices.family(model)
    if name is None or name == model or family is None or prices.shutdown_date(name) is None:
        return asked, {}
    changed = _changed(asked, family)
    said = [f"model={name}->{model}"]
    said += [
        f"{field} dropped" if value is None else f"{field}={asked.fields[field]}->{value}"
        for field, value in changed.items()
    ]
    return asked.with_fields(changed), {HEADER: ", ".join(said)}


def _changed(asked: ImageRequest, family: Family) -> dict[str, str | None]:
    """Give the fields that the new model would refuse, in its own words; None for those that it has none for."""
    changed: dict[str, str | None] = {}
    quality, size = asked.fields.get("quality"), asked.fields.get("size")
    if isinstance(quality, str) and quality in _QUALITIES:
        changed["quality"] = _QUALITIES[quality]
    if isinstance(size, str) and size in _SIZES and not family.has_size(size):
        changed["size"] = _SIZES[size]
    if asked.fields.get("style") is not None:
        changed["style"] = None
    if asked.fields.get("input_fidelity") is not None and not family.input_fidelity:
        changed["input_fidelity"] = None
    return changed
