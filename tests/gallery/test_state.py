"""What state.json says, and that it can be read back."""

from __future__ import annotations

import pytest

from pixie_proxy.gallery.state import FolderState, ImageState

STATE = FolderState(
    request_id="req_x",
    images={
        "img_a": ImageState(visibility="private", deleted_us=7, expires_us=None, link_epoch=3),
        "img_b": ImageState(
            visibility="team", deleted_us=None, expires_us=9, link_epoch=0, tags=("fox", "owl")
        ),
    },
    purged=("img_c",),
)


def test_what_was_written_is_read() -> None:
    """Every field."""
    assert FolderState.from_json(STATE.to_json()) == STATE


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version": 2, "id": "x", "images": {}, "purged": []}',
        b'{"version": 1, "id": "x", "images": {"a": {"visibility": "team"}}, "purged": []}',
        STATE.to_json().replace(b"private", b"secret"),
        STATE.to_json().replace(b'"fox"', b"7"),
    ],
)
def test_what_is_none_of_ours_is_refused(text: bytes) -> None:
    """Nothing is guessed: what was private must not become the default by accident."""
    with pytest.raises(ValueError):
        FolderState.from_json(text)
