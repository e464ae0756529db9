"""Old images go into the trash, and out of it, when their time has come, and never as a whole by accident."""

from __future__ import annotations

import logging
import time
from collections import Counter

import pytest

from pixie_proxy.config import GallerySettings
from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.gallery.retention import ALWAYS_ALLOWED, Retention, age_of, allowed_at_once, survey
from pixie_proxy.index import images, trash
from pixie_proxy.metrics import Gauge
from pixie_proxy.records import StoredImage, id_time_us, to_datetime
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import SENTINEL
from tests.gallery.conftest import House
from tests.support.calls import ANN, admit
from tests.support.old_collection import PICTURE, add_rows, old_calls

DAY_S = 24 * 60 * 60
START_S = 1_795_000_000


class Clock:
    """A clock that is set."""

    now_s: float = START_S

    def __call__(self) -> float:
        return self.now_s


def retention(house: House, clock: Clock, held: Gauge | None = None, **settings: int) -> Retention:
    return Retention(
        house.index,
        house.storage,
        house.upkeep(),
        GallerySettings.model_validate(settings),
        held or Gauge("held", ""),
        clock,
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


def days_after(image: StoredImage, days: float) -> float:
    """Give the moment when an image is so many days old."""
    return id_time_us(image.id) / 1_000_000 + days * DAY_S


async def make_old(house: House, count: int) -> list[Manifest]:
    """Keep images one by one that were made hundreds of days ago."""
    await admit(house.index)
    manifests = old_calls(count, 1, days=300, owner=(ANN.id, ANN.name))
    await add_rows(house.index, manifests)
    for manifest in manifests:
        house.adopt(manifest)
    return manifests


async def in_trash(house: House) -> int:
    """Count the images in the trash."""
    found = await house.index.read(
        lambda tx: tx.one("SELECT count(*) AS images FROM images WHERE deleted_us IS NOT NULL")
    )
    return found["images"] if found else 0


async def test_an_old_image_goes_into_the_trash_when_its_days_are_over(house: House) -> None:
    """Not a moment before, and no further: it can be restored for `trash_days`. Links are dead, state.json tells."""
    manifest, clock = await house.call(), Clock()
    (image,) = manifest.images
    clock.now_s = days_after(image, 90)
    assert await retention(house, clock, retention_days=90).fill() == 0
    clock.now_s += 0.001
    keeper = retention(house, clock, retention_days=90)
    assert (await keeper.fill(), await keeper.purge()) == (1, 0)
    record = await house.record(image)
    assert record is not None
    assert (record.deleted_us, record.link_epoch) == (round(clock.now_s * 1_000_000), 1)
    assert house.names(manifest.call) == ["0.png", "request.json", "state.json"]
    assert (house.state(manifest.call) or {})["images"][image.id]["deleted_us"] == record.deleted_us
    assert await keeper.fill() == 0
    clock.now_s += 30 * DAY_S
    assert (await keeper.purge(), house.names(manifest.call)) == (0, ["0.png", "request.json", "state.json"])
    clock.now_s += 0.001
    assert (await keeper.purge(), house.names(manifest.call)) == (1, [])


async def test_images_stay_for_ever_unless_days_are_set(house: House) -> None:
    """Nobody finds an image gone because of a default."""
    (image,) = (await house.call()).images
    clock = Clock()
    clock.now_s = days_after(image, 10_000)
    assert await retention(house, clock).fill() == 0


async def test_a_restored_image_has_its_days_anew(house: House) -> None:
    """Until `expires_us`, and not a moment longer."""
    (image,) = (await house.call()).images
    clock = Clock()
    clock.now_s = days_after(image, 91)
    keeper = retention(house, clock, retention_days=90)
    assert await keeper.fill() == 1
    until_us = round((clock.now_s + 90 * DAY_S) * 1_000_000)
    await house.index.write(lambda tx: images.restore(tx, image.id, until_us))
    assert await keeper.fill() == 0
    clock.now_s = until_us / 1_000_000
    assert await keeper.fill() == 0
    clock.now_s += 0.001
    assert await keeper.fill() == 1


async def test_a_clock_that_is_days_ahead_empties_no_gallery(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred would go; with one more none does. It is told once, shown for as long, and over with the clock."""
    manifests, clock, held = await make_old(house, 101), Clock(), Gauge("held", "")
    clock.now_s = days_after(manifests[-1].images[0], 39)
    keeper = retention(house, clock, held, retention_days=40)
    assert (await keeper.fill(), held.value) == (0, 0)
    clock.now_s += 10 * DAY_S
    assert (await keeper.fill(), held.value) == (0, 101)
    assert (await keeper.fill(), held.value) == (0, 101)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "pixie retention --apply" in caplog.text
    clock.now_s -= 10 * DAY_S
    assert (await keeper.fill(), held.value, await in_trash(house)) == (0, 0, 0)


async def test_a_hundred_old_images_go_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page."""
    monkeypatch.setattr("pixie_proxy.gallery.retention._PAGE", 30)
    manifests, clock = await make_old(house, 100), Clock()
    clock.now_s = days_after(manifests[-1].images[0], 41)
    assert await retention(house, clock, retention_days=40).fill() == 100
    assert await in_trash(house) == 100


async def test_an_operator_lets_more_go(house: House) -> None:
    """All that is due, and no more."""
    manifests, clock = await make_old(house, 201), Clock()
    clock.now_s = days_after(manifests[-1].images[0], 40)
    gone: list[int] = []
    keeper = retention(house, clock, retention_days=40)
    assert await keeper.fill_all(age_of(40, clock()), gone.append) == 200
    assert (sum(gone), await in_trash(house)) == (200, 200)
    assert await keeper.fill() == 0
    clock.now_s += 0.001
    assert await keeper.fill() == 1


async def test_one_of_a_hundred_may_go_where_that_is_more(house: House) -> None:
    """From ten thousand images on."""
    assert await house.index.read(allowed_at_once) == ALWAYS_ALLOWED
    await admit(house.index)
    await add_rows(house.index, old_calls(1010, 10, days=300, owner=(ANN.id, ANN.name)))
    assert await house.index.read(allowed_at_once) == 101


async def test_no_old_image_goes_from_a_storage_that_is_not_there(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """Not mounted, or out of reach: the rows stay as they are."""
    (image,) = (await house.call()).images
    clock = Clock()
    clock.now_s = days_after(image, 91)
    keeper = retention(house, clock, retention_days=90)
    sentinel = house.storage.files.pop(SENTINEL)
    assert await keeper.fill() == 0
    assert "the storage is not there" in caplog.text
    house.storage.files[SENTINEL] = sentinel
    house.storage.is_away = True
    with pytest.raises(StorageUnavailable):
        await keeper.fill()
    assert await in_trash(house) == 0
    house.storage.is_away = False
    assert await keeper.fill() == 1


async def test_the_survey_adds_up_by_month_and_owner(house: House) -> None:
    """Every image that is due is in it once, and no other."""
    await admit(house.index)
    calls = [
        manifest
        for days, count in [(400, 3), (330, 2), (100, 4)]
        for manifest in old_calls(count, 2, days=days, owner=(ANN.id, ANN.name), seed=days)
    ]
    await add_rows(house.index, calls)
    due = Counter(f"{to_datetime(id_time_us(manifest.call.id)):%Y-%m}" for manifest in calls[:5])
    age = age_of(200, time.time())
    months = await house.index.read(lambda tx: survey(tx, age))
    assert [(month, *owner) for month, owners in months for owner in owners] == [
        (month, "ann", 2 * count, 2 * count * len(PICTURE)) for month, count in sorted(due.items())
    ]
    assert await house.index.read(lambda tx: trash.count_due(tx, age)) == 10
    assert await house.index.read(lambda tx: survey(tx, age_of(5000, time.time()))) == []
