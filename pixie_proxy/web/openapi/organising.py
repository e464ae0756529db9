"""What people do with images beside looking: change many, put them into collections, share and export them."""

from __future__ import annotations

from pixie_proxy.errors import PermissionDenied, StorageUnavailable, Unavailable
from pixie_proxy.gallery.tagging import MAX_TAGS
from pixie_proxy.records import COLLECTION_VISIBILITIES, VISIBILITIES
from pixie_proxy.web.bulk import ACTS, MAX_IDS
from pixie_proxy.web.fields import MAX_TEXT
from pixie_proxy.web.openapi.images import FILTERS
from pixie_proxy.web.openapi.words import (
    BOOLEAN,
    COUNT,
    OPEN,
    SPAN,
    TEXT,
    TIME_S,
    Operation,
    Schema,
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
    taken,
    text,
    walk,
)
from pixie_proxy.web.shares import MAX_LIFETIME_S

_IDS: Schema = {**list_of(TEXT), "minItems": 1, "maxItems": MAX_IDS}
_TAGS: Schema = {**list_of(TEXT), "minItems": 1, "maxItems": MAX_TAGS}
_PLAIN_ACTS = [act for act in ACTS if act not in {"visibility", "tag", "untag"}]
_DONE = json(ref("Bulk"))
_COLLECTION = json(ref("Collection"))
_COLLECTION_FIELDS = {"name": text(MAX_TEXT), "visibility": nullable(one_of(COLLECTION_VISIBILITIES))}


def _act(field: str, schema: Schema, acts: tuple[str, ...]) -> Schema:
    """Describe a change of many images that needs one more field."""
    return taken("ids", "action", field, **{"ids": _IDS, "action": one_of(acts), field: schema})


ORGANISING = Subject(
    tag="Organise",
    holes={"id": id_of("img"), "share": id_of("shr"), "collection": id_of("col")},
    operations={
        "POST /v1/images/bulk": Operation(
            body=json(
                {
                    "anyOf": [
                        taken("ids", "action", ids=_IDS, action=one_of(_PLAIN_ACTS)),
                        _act("visibility", one_of(VISIBILITIES), ("visibility",)),
                        _act("tags", _TAGS, ("tag", "untag")),
                    ]
                }
            ),
            answer=_DONE,
        ),
        "GET /v1/images/export": Operation(
            query={
                **{name: said for name, said in FILTERS.items() if name != "deleted"},
                **SPAN,
                "ids": TEXT,
            },
            answer={"application/zip": {"type": "string", "format": "binary"}},
            errors=(StorageUnavailable,),
        ),
        "GET /v1/collections": Operation(
            query={**walk("col"), "owner": text(), "image": id_of("img")}, answer=json(page_of("Collection"))
        ),
        "POST /v1/collections": Operation(body=json(taken("name", **_COLLECTION_FIELDS)), answer=_COLLECTION),
        "GET /v1/collections/{collection}": Operation(answer=_COLLECTION),
        "POST /v1/collections/{collection}": Operation(
            body=json(change(**_COLLECTION_FIELDS)), answer=_COLLECTION, errors=(PermissionDenied,)
        ),
        "DELETE /v1/collections/{collection}": Operation(
            answer=json(record(id=id_of("col"), object=one_of(["collection"]), deleted={"const": True})),
            errors=(PermissionDenied,),
        ),
        "POST /v1/collections/{collection}/images": Operation(
            body=json(change(add=_IDS, remove=_IDS)), answer=_DONE, errors=(PermissionDenied,)
        ),
        "POST /v1/images/{id}/shares": Operation(
            body=json(
                taken(
                    expires_in_s=nullable({"type": "integer", "minimum": 1, "maximum": MAX_LIFETIME_S}),
                    password=nullable(TEXT),
                    show_prompt=nullable(BOOLEAN),
                )
            ),
            answer=json(ref("Share")),
            errors=(PermissionDenied, Unavailable),
        ),
        "GET /v1/images/{id}/shares": Operation(answer=json(page_of("Share")), errors=(PermissionDenied,)),
        "DELETE /v1/images/{id}/shares/{share}": Operation(
            answer=json(record(id=id_of("shr"), object=one_of(["share"]), revoked={"const": True})),
            errors=(PermissionDenied,),
        ),
    },
    schemas={
        "Bulk": record(
            object=one_of(["image.bulk"]),
            action=TEXT,
            data=list_of(record(id=TEXT, done=BOOLEAN, error=nullable(OPEN))),
        ),
        "Collection": record(
            id=id_of("col"),
            object=one_of(["collection"]),
            created=TIME_S,
            owner=TEXT,
            name=TEXT,
            visibility=one_of(COLLECTION_VISIBILITIES),
        ),
        "Share": record(
            id=id_of("shr"),
            object=one_of(["share"]),
            image_id=id_of("img"),
            url=nullable(TEXT),
            created=TIME_S,
            expires_at=nullable(TIME_S),
            revoked_at=nullable(TIME_S),
            has_password=BOOLEAN,
            show_prompt=BOOLEAN,
            views=COUNT,
        ),
    },
)
