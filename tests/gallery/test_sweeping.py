"""The sweep of the thumbnails: those of purged images go, those of others stay, and a round is never long."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixie_proxy.errors import IndexUnavailable
from pixie_proxy.gallery import sweeping
from pixie_proxy.gallery.sweeping import Sweep
from pixie_proxy.index import images
from pixie_proxy.records import new_id
from tests.gallery.conftest import House


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "thumbnails"


def put(cache: Path, image_id: str, name: str = "{}-256.webp") -> Path:
    path = cache / image_id[-2:] / name.format(image_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"small")
    return path


async def test_what_is_gone_for_good_goes(house: House, cache: Path) -> None:
    """All that there is of it; of images that lie in the trash nothing does, nor what is no image's."""
    live, thrown, gone = (await house.call(3)).images
    kept = [put(cache, live.id), put(cache, live.id, "{}.died"), put(cache, thrown.id), put(cache, "readme")]
    for name in ("{}-256.webp", "{}-512.webp", "{}.died", ".{}-512.webp.0a1b2c3d.part"):
        put(cache, gone.id, name)

    def work(tx: Any) -> None:
        images.delete(tx, thrown.id, 1)
        images.remove(tx, gone.id, "")

    await house.index.write(work)
    assert await Sweep(cache, house.index).once() == 1
    assert sorted(path for path in cache.rglob("*") if path.is_file()) == sorted(kept)


async def test_parts_that_a_dead_process_left_go(house: House, cache: Path) -> None:
    """Of images that are there, too; but not one that is being written."""
    (image,) = (await house.call()).images
    old, new = (put(cache, image.id, ".{}-" + size + ".webp.0a1b2c3d.part") for size in ("256", "512"))
    os.utime(old, (1, 1))
    await Sweep(cache, house.index).once()
    assert (old.exists(), new.exists()) == (False, True)


async def test_a_round_is_bounded_and_the_next_goes_on(
    house: House, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large the cache is; after its end the walk begins again."""
    monkeypatch.setattr(sweeping, "MOST_IMAGES", 10)
    monkeypatch.setattr(sweeping, "_PAGE", 4)
    asked = counting(house, monkeypatch)
    for _ in range(25):
        put(cache, new_id("img"))
    sweep = Sweep(cache, house.index)
    assert [await sweep.once() for _ in range(4)] == [10, 10, 5, 0]
    assert asked == [4, 4, 2, 4, 4, 2, 4, 1]
    put(cache, new_id("img"))
    assert await sweep.once() == 1


async def test_nothing_goes_while_the_index_is_away(
    house: House, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round is done again when it is back."""
    path = put(cache, new_id("img"))
    sweep = Sweep(cache, house.index)

    async def away(_: Callable[[Any], Any]) -> Any:
        raise IndexUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(house.index, "read", away)
        with pytest.raises(IndexUnavailable):
            await sweep.once()
    assert path.exists()
    assert await sweep.once() == 1
    assert not path.exists()


async def test_an_empty_cache_is_no_trouble(house: House, cache: Path) -> None:
    """Its folder is made with the first thumbnail."""
    assert await Sweep(cache, house.index).once() == 0


def counting(house: House, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the images that are asked for at once."""
    asked: list[int] = []
    known = images.known

    def counted(tx: Any, image_ids: list[str]) -> set[str]:
        asked.append(len(image_ids))
        return known(tx, image_ids)

    monkeypatch.setattr(images, "known", counted)
    return asked
