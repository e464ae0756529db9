"""Models: what each can do, and what it costs."""

from __future__ import annotations

from pixie_proxy.web.openapi.words import (
    BOOLEAN,
    COUNT,
    TEXT,
    TIME_S,
    USD,
    Operation,
    Subject,
    json,
    list_of,
    nullable,
    one_of,
    record,
    ref,
)

_KINDS = ("text_in", "cached_text_in", "image_in", "cached_image_in", "image_out", "text_out")
_TEXTS = list_of(TEXT)

MODELS = Subject(
    tag="Models",
    holes={"model": TEXT},
    operations={
        "GET /v1/models": Operation(answer=json(record(object=one_of(["list"]), data=list_of(ref("Model"))))),
        "GET /v1/models/{model}": Operation(answer=json(ref("Model"))),
    },
    schemas={
        "Model": record(
            id=TEXT,
            object=one_of(["model"]),
            created=TIME_S,
            owned_by=TEXT,
            shutdown_date=nullable({"type": "string", "format": "date"}),
            alias_of=nullable(TEXT),
            aliases=_TEXTS,
            capabilities=nullable(ref("Capabilities")),
            prices=nullable(ref("Prices")),
        ),
        "Capabilities": record(
            qualities=_TEXTS,
            sizes=nullable(_TEXTS),
            size_rules=nullable(
                record(
                    edge_multiple_of=COUNT, max_edge=COUNT, max_ratio=USD, min_pixels=COUNT, max_pixels=COUNT
                )
            ),
            output_formats=_TEXTS,
            input_fidelity=_TEXTS,
            markup=BOOLEAN,
        ),
        "Prices": {
            "description": "USD for an image, or for a million tokens of each kind.",
            "oneOf": [
                record(currency=one_of(["usd"]), unit=one_of(["image"]), image=USD),
                record(
                    currency=one_of(["usd"]),
                    unit=one_of(["million_tokens"]),
                    **dict.fromkeys(_KINDS, nullable(USD)),
                ),
            ],
        },
    },
)
