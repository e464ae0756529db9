"""The trash is emptied when its time has come, and never as a whole by accident."""

from __future__ import annotations

import logging

import pytest

from pixie_proxy.config import GallerySettings
from pixie_proxy.gallery.retention import Retention
from pixie_proxy.index import images
from pixie_proxy.records import StoredImage
from pixie_proxy.storage import SENTINEL
from tests.gallery.conftest import House

DAY_S = 24 * 60 * 60
START_S = 1_795_000_000


class Clock:
    """A clock that is set."""

    now_s: float = START_S

    def __call__(self) -> float:
        return self.now_s


def retention(house: House, clock: Clock, **settings: int) -> Retention:
    return Retention(
        house.index, house.storage, house.upkeep(), GallerySettings.model_validate(settings), clock
    )


async def throw_away(house: House, *thrown: StoredImage, at_s: float = START_S) -> None:
    await house.index.write(
        lambda tx: [images.delete(tx, image.id, round(at_s * 1_000_000)) for image in thrown]
    )


async def test_an_image_goes_when_its_days_are_over(house: House) -> None:
    """Not a moment before: row, files and folder. What was not thrown away stays."""
    gone, kept, clock = await house.call(), await house.call(), Clock()
    await throw_away(house, *gone.images)
    clock.now_s = START_S + 30 * DAY_S
    assert await retention(house, clock).purge() == 0
    assert house.names(gone.call) == ["0.png", "request.json"]
    clock.now_s += 0.001
    assert await retention(house, clock).purge() == 1
    assert (house.names(gone.call), await house.record(gone.images[0])) == ([], None)
    assert house.names(kept.call) == ["0.png", "request.json"]
    assert house.forgotten == [gone.images[0].id]
    assert await retention(house, clock).purge() == 0


async def test_a_folder_stays_as_long_as_one_of_its_images(house: House) -> None:
    """Then it goes with the last of them."""
    manifest, clock = await house.call(2), Clock()
    first, second = manifest.images
    await throw_away(house, first)
    await throw_away(house, second, at_s=START_S + DAY_S)
    clock.now_s = START_S + 30 * DAY_S + 1
    assert await retention(house, clock).purge() == 1
    assert house.names(manifest.call) == ["1.png", "request.json", "state.json"]
    clock.now_s += DAY_S
    assert await retention(house, clock).purge() == 1
    assert house.names(manifest.call) == []


async def test_a_restored_image_is_not_purged(house: House) -> None:
    """Whenever that was."""
    manifest, clock = await house.call(), Clock()
    await throw_away(house, *manifest.images)
    clock.now_s = START_S + 99 * DAY_S
    await house.index.write(lambda tx: images.restore(tx, manifest.images[0].id))
    assert await retention(house, clock).purge() == 0


async def test_too_many_at_once_stop_the_purge(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """A hundred go, one more does not, and the log says what to look at; an operator's word lets them go."""
    calls, clock = [await house.call(10) for _ in range(11)], Clock()
    for manifest in calls[:10]:
        await throw_away(house, *manifest.images)
    (late, *_) = calls[10].images
    clock.now_s = START_S + 31 * DAY_S
    await throw_away(house, late)
    assert await retention(house, clock).purge() == 0
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "gallery.purge_at_once" in caplog.text
    assert await house.index.read(images.count) == 110
    assert await retention(house, clock, purge_at_once=100).purge() == 0
    assert await retention(house, clock, purge_at_once=101).purge() == 101
    assert await house.index.read(images.count) == 9
    assert house.names(calls[10].call) == [f"{n}.png" for n in range(1, 10)] + ["request.json", "state.json"]


async def test_a_hundred_at_once_are_allowed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page."""
    monkeypatch.setattr("pixie_proxy.gallery.retention._PAGE", 30)
    calls, clock = [await house.call(10) for _ in range(10)], Clock()
    for manifest in calls:
        await throw_away(house, *manifest.images)
    clock.now_s = START_S + 31 * DAY_S
    assert await retention(house, clock).purge() == 100
    assert list(house.storage.files) == [SENTINEL]


async def test_nothing_is_purged_from_a_storage_that_is_not_there(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """An unmounted folder is no reason to forget what should be in it."""
    manifest, clock = await house.call(), Clock()
    await throw_away(house, *manifest.images)
    clock.now_s = START_S + 31 * DAY_S
    sentinel = house.storage.files.pop(SENTINEL)
    assert await retention(house, clock).purge() == 0
    assert "the storage is not there" in caplog.text
    assert await house.record(manifest.images[0]) is not None
    house.storage.files[SENTINEL] = sentinel
    assert await retention(house, clock).purge() == 1
