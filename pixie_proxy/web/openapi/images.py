"""Images: the list of them, their bytes, and the changes to them."""

from __future__ import annotations

from pixie_proxy.errors import (
    IndexUnavailable,
    PermissionDenied,
    RangeNotSatisfiable,
    StorageUnavailable,
)
from pixie_proxy.media import EXTENSIONS
from pixie_proxy.records import KINDS, VISIBILITIES
from pixie_proxy.web.openapi.words import (
    ASKED,
    BOOLEAN,
    COUNT,
    NO_BODY,
    TEXT,
    TIME_S,
    USD,
    Operation,
    Subject,
    change,
    id_of,
    json,
    list_of,
    nullable,
    one_of,
    page_of,
    record,
    ref,
    text,
    walk,
)

_BYTES = {mime: {"type": "string", "format": "binary"} for mime in EXTENSIONS}
_PARTS = {206: _BYTES, 302: NO_BODY, 304: NO_BODY}
_IMAGE = json(ref("Image"))

FILTERS = {
    "q": text(),
    "owner": text(),
    "model": text(),
    "kind": one_of(KINDS),
    "visibility": one_of(VISIBILITIES),
    "deleted": one_of(["true", "false"]),
    "parent": id_of("img"),
    "tag": text(),
    "favorite": one_of(["true"]),
    "collection": id_of("col"),
}
"""What a list of images can be narrowed to."""

IMAGES = Subject(
    tag="Images",
    holes={"id": id_of("img"), "name": TEXT},
    operations={
        "GET /v1/images": Operation(
            query={**walk("img"), **FILTERS},
            answer=json(page_of("Image")),
        ),
        "GET /v1/images/{id}": Operation(answer=_IMAGE),
        "POST /v1/images/{id}": Operation(
            body=json(
                change(visibility=one_of(VISIBILITIES), revoke_url=BOOLEAN, tags=nullable(list_of(TEXT)))
            ),
            answer=_IMAGE,
            errors=(PermissionDenied, StorageUnavailable),
        ),
        "DELETE /v1/images/{id}": Operation(
            answer=json(record(id=id_of("img"), object=one_of(["image"]), deleted={"const": True})),
            errors=(PermissionDenied, StorageUnavailable),
        ),
        "POST /v1/images/{id}/restore": Operation(
            answer=_IMAGE, errors=(PermissionDenied, StorageUnavailable)
        ),
        "POST /v1/images/{id}/favorite": Operation(answer=_IMAGE),
        "DELETE /v1/images/{id}/favorite": Operation(answer=_IMAGE),
        "GET /v1/images/{id}/content": Operation(
            answer=_BYTES, also=_PARTS, errors=(RangeNotSatisfiable, StorageUnavailable)
        ),
        "GET /v1/images/{id}/thumbnail": Operation(
            query={"size": lambda settings: one_of(settings.gallery.thumbnail_px)},
            answer={mime: _BYTES[mime] for mime in ("image/webp", "image/svg+xml")},
            also=_PARTS,  # an SVG is served as it is
            errors=(RangeNotSatisfiable, StorageUnavailable),
        ),
        "GET /i/{name}": Operation(
            answer=_BYTES, also=_PARTS, errors=(RangeNotSatisfiable, StorageUnavailable, IndexUnavailable)
        ),
    },
    schemas={
        "Image": record(
            id=id_of("img"),
            object=one_of(["image"]),
            created=TIME_S,
            request_id=id_of("req"),
            index=COUNT,
            owner=TEXT,
            prompt=nullable(TEXT),
            revised_prompt=nullable(TEXT),
            model=TEXT,
            kind=one_of(KINDS),
            size=ASKED,
            quality=ASKED,
            background=ASKED,
            format=TEXT,
            width=nullable(COUNT),
            height=nullable(COUNT),
            bytes=COUNT,
            sha256={"type": "string", "pattern": "^[0-9a-f]{64}$"},
            visibility=one_of(VISIBILITIES),
            url=nullable(TEXT),
            content_url=nullable(TEXT),
            thumbnail_url=nullable(TEXT),
            parents=list_of(id_of("img")),
            tags=list_of(TEXT),
            favorite=BOOLEAN,
            cost_usd=nullable(USD),
            deleted_at=nullable(TIME_S),
        )
    },
)
