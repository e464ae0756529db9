"""What request.json says, and what it is read back as."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from pixie_proxy.records import StoredImage
from pixie_proxy.spool.manifest import VERSION, Manifest
from tests.support.calls import a_call, a_manifest, an_end

IMAGES = tuple(
    StoredImage(
        id=f"img_{position}",
        position=position,
        file=f"{position}.png",
        mime="image/png",
        size_bytes=2**40,
        sha256="0" * 64,
        width=None if position else 7,
        height=None,
        revised_prompt="a “blue” fox" if position else None,
    )
    for position in range(2)
)


@pytest.mark.parametrize(
    "manifest",
    [
        a_manifest(a_call(), IMAGES),
        a_manifest(
            a_call(kind="edit", is_stream=True, key_id="key_x", idempotency_key="k\u00e9"), IMAGES[:1]
        ),
        a_manifest(a_call(kind="edit", parents=("img_b", "img_a")), IMAGES),
        a_manifest(a_call(prompt=None, requested_model=None, params={}), ()),
        replace(
            a_manifest(a_call(), IMAGES),
            visibility="private",
            settlement=an_end(a_call(), "unknown", usage=None, skeleton=None, error="cut", flags=("a", "b")),
        ),
    ],
)
def test_a_manifest_comes_back_as_it_was_written(manifest: Manifest) -> None:
    """Index and bill are rebuilt from it alone."""
    settlement = replace(manifest.settlement, request_id=manifest.call.id)
    manifest = replace(manifest, settlement=settlement)
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_a_manifest_can_be_read_by_people() -> None:
    """Whoever finds it beside an image learns whose it is and what was asked for."""
    said = orjson.loads(a_manifest(a_call(), IMAGES).to_json())
    assert (said["object"], said["owner"]["name"], said["model"]) == ("pixie.request", "ann", "gpt-image-2")
    assert said["prompt"] == "a “fox”\u2028"
    assert said["images"][1] == {
        "id": "img_1", "position": 1, "file": "1.png", "mime": "image/png", "size_bytes": 2**40,
        "sha256": "0" * 64, "width": None, "height": None, "revised_prompt": "a “blue” fox",
    }  # fmt: skip


def broken(**fields: Any) -> bytes:
    return orjson.dumps({**orjson.loads(a_manifest(a_call(), IMAGES).to_json()), **fields})


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b"{}", b"\xff", broken(version=VERSION + 1), broken(owner=None), broken(images=[{}]),
     broken(images=5), broken(answer="?a"), broken(flags=None), broken(version="x")],
)  # fmt: skip
def test_what_is_no_manifest_of_ours_is_refused(text: bytes) -> None:
    """In one way, so that recovery leaves it where it is."""
    with pytest.raises(ValueError):
        Manifest.from_json(text)
