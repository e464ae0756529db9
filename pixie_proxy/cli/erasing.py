"""The work of `pixie user delete`: all of a deletion at once, with or without a proxy beside it."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from pixie_proxy.accounts import erasing, people
from pixie_proxy.audit.rebuild import check_pair
from pixie_proxy.backends import INDEX_FILE
from pixie_proxy.cli.auditing import House, open_house
from pixie_proxy.config import Settings
from pixie_proxy.gallery.thumbnails import forget_thumbnails
from pixie_proxy.gallery.upkeep import Upkeep
from pixie_proxy.tasks import TaskKeeper


class Erased(NamedTuple):
    """What went. `left` folders are still in storage, for `reason`; `copies` of the index are from before."""

    id: str
    images: int
    left: int
    reason: str | None
    copies: list[str]


async def erase_user(settings: Settings, name: str, confirm: str) -> Erased:
    """Delete a user and all that is kept of it. Raises ConfigError, ProxyError."""
    data_dir = settings.server.data_dir
    async with open_house(settings) as house:
        await check_pair(house.index, house.storage)
        deleted = await house.index.write(
            lambda tx: erasing.delete_user(tx, people.find_user(tx, name), confirm)
        )
        upkeep = _upkeep(house, settings)
        await erasing.Erasing(house.index, house.spool.partials, upkeep.nudge).finish()
        left, reason = await upkeep.sweep()
    copies = sorted(str(path) for path in data_dir.glob(f"{INDEX_FILE}.before-*"))
    return Erased(deleted.id, deleted.images, left, reason, copies)


def _upkeep(house: House, settings: Settings) -> Upkeep:
    forget = partial(forget_thumbnails, settings.server.data_dir / "thumbnails")
    return Upkeep(house.index, house.storage, TaskKeeper(), forget, house.spool.holds)
