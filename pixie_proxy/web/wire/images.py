"""Images and lists on the wire."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any

from pixie_proxy.errors import ProxyError
from pixie_proxy.index.seen import Seen
from pixie_proxy.records import Collection, ImageRecord, Page, User, id_time_us
from pixie_proxy.web.wire.money import usd


def image_json(seen: Seen, viewer: User, url: str, base_path: str = "/v1/images") -> dict[str, Any]:
    """Write an image. `url` works for whoever holds it, so only owner and admins are given it.

    What lies in the trash has no addresses until it is restored.
    """
    record = seen.record
    is_own = viewer.is_admin or record.owner_id == viewer.id
    is_there = record.deleted_us is None
    path = f"{base_path}/{record.id}"
    size = f"{record.width}x{record.height}" if record.width and record.height else record.params.get("size")
    return {
        "id": record.id,
        "object": "image",
        "created": id_time_us(record.id) // 1_000_000,
        "request_id": record.request_id,
        "index": record.position,
        "owner": record.owner_name,
        "prompt": record.prompt,
        "revised_prompt": record.revised_prompt,
        "model": record.model,
        "kind": record.kind,
        "size": size,
        "quality": record.params.get("quality"),
        "background": record.params.get("background"),
        "format": record.mime.removeprefix("image/").removesuffix("+xml"),
        "width": record.width,
        "height": record.height,
        "bytes": record.size_bytes,
        "sha256": record.sha256,
        "visibility": record.visibility,
        "url": url if is_own and is_there else None,
        "content_url": f"{path}/content" if is_there else None,
        "thumbnail_url": f"{path}/thumbnail",
        "placeholder": placeholder_uri(record),
        "animated": record.is_animated,
        "parents": seen.parents,
        "tags": record.tags,
        "favorite": seen.is_favorite,
        "cost_usd": usd(share(record.cost_micros, record.siblings, record.position)),
        "deleted_at": None if record.deleted_us is None else record.deleted_us // 1_000_000,
    }


def exported_json(seen: Seen, viewer: User, file: str) -> dict[str, Any]:
    """Write an image as an archive tells of it: without what is for pages, and with all that was asked for."""
    for_pages = {"url", "content_url", "thumbnail_url", "placeholder"}
    said = {name: value for name, value in image_json(seen, viewer, "").items() if name not in for_pages}
    return {"file": file, **said, "params": seen.record.params}


def placeholder_uri(record: ImageRecord) -> str | None:
    """Give the tiny picture that stands in an image's place while it loads, as an address that needs no request."""
    if record.placeholder is None:
        return None
    return "data:image/webp;base64," + b64encode(record.placeholder).decode()


def collection_json(collection: Collection) -> dict[str, Any]:
    """Write a collection."""
    return {
        "id": collection.id,
        "object": "collection",
        "created": collection.created_us // 1_000_000,
        "owner": collection.owner_name,
        "name": collection.name,
        "visibility": collection.visibility,
    }


def deleted_json(image_id: str) -> dict[str, Any]:
    """Confirm a deletion as OpenAI does."""
    return {"id": image_id, "object": "image", "deleted": True}


def bulk_json(action: str, done: Mapping[str, ProxyError | None]) -> dict[str, Any]:
    """Write what became of each image of many."""
    return {
        "object": "image.bulk",
        "action": action,
        "data": [
            {"id": image_id, "done": error is None, "error": error and error.answer()[1]["error"]}
            for image_id, error in done.items()
        ],
    }


def list_json(page: Page[Any], items: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Write a list as OpenAI does."""
    data = list(items)
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": page.has_more,
    }


def share(cost_micros: int | None, siblings: int, position: int) -> int | None:
    """Give one image's part of its call's cost, so that the parts add up to the micro."""
    if cost_micros is None:
        return None
    each, rest = divmod(cost_micros, siblings)
    return each + (position < rest)
