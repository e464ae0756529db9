"""Links that work without a header, and can't be guessed."""

from __future__ import annotations

import pytest

from pixie_proxy.gallery.sharing import LinkSigner, parse_link
from pixie_proxy.media import EXTENSIONS
from pixie_proxy.records import new_id

SIGNER = LinkSigner(b"secret", "https://images.example.org")


def signed(image_id: str, epoch: int = 0, signer: LinkSigner = SIGNER) -> str:
    return signer.url(image_id, "image/png", epoch).rsplit("/", 1)[-1]


@pytest.mark.parametrize("mime", EXTENSIONS)
def test_a_link_is_good(mime: str) -> None:
    """It starts with the public address, ends with the type's extension, and is always the same."""
    image_id = new_id("img")
    url = SIGNER.url(image_id, mime)
    assert url.startswith(f"https://images.example.org/i/{image_id}-")
    assert url.endswith(f".{EXTENSIONS[mime]}")
    assert url == SIGNER.url(image_id, mime)
    parsed = parse_link(url.rsplit("/", 1)[-1])
    assert parsed is not None
    assert parsed[0] == image_id
    assert SIGNER.is_valid(*parsed, 0)


def test_a_signature_is_good_for_one_image_of_one_epoch_and_secret() -> None:
    """No other image, no later epoch, no other installation."""
    image_id = new_id("img")
    parsed = parse_link(signed(image_id, 3))
    assert parsed is not None
    _, signature = parsed
    assert SIGNER.is_valid(image_id, signature, 3)
    assert not [epoch for epoch in (0, 2, 4) if SIGNER.is_valid(image_id, signature, epoch)]
    assert not SIGNER.is_valid(new_id("img"), signature, 3)
    assert not LinkSigner(b"other", "https://images.example.org").is_valid(image_id, signature, 3)


def test_signatures_do_not_repeat() -> None:
    """128 bits each: ids that differ in one character have nothing in common."""
    names = [signed(new_id("img")) for _ in range(500)]
    parsed = [parse_link(name) for name in names]
    assert len({found[1] for found in parsed if found}) == 500


@pytest.mark.parametrize(
    "change",
    [
        lambda name: name[:-4],
        lambda name: name + "xy",
        lambda name: name.upper(),
        lambda name: name.replace("-", "_", 1),
        lambda name: name.replace("img_", "req_"),
        lambda name: name[:35] + "w" + name[36:],
        lambda name: f"../{name}",
        lambda name: f"{name}\n",
        lambda name: name[:0],
    ],
)
def test_what_is_no_link_is_not_looked_at(change: object) -> None:
    """Only our own alphabet reaches the signature, or a query."""
    assert callable(change)
    assert parse_link(change(signed(new_id("img")))) is None
