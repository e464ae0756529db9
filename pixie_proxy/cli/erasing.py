"""The work of `pixie user delete`: all of a deletion at once, with or without a proxy beside it."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from pixie_proxy.accounts import erasing, people
from pixie_proxy.audit.rebuild import check_pair
from pixie_proxy.backends import INDEX_FILE
from pixie_proxy.cli.auditing import open_house, upkeep_of
from pixie_proxy.config import Settings
from pixie_proxy.errors import ProxyError
from pixie_proxy.gallery.thumbnails import forget_thumbnails
from pixie_proxy.tasks import TaskKeeper


class Erased(NamedTuple):
    """What went. `reason` says why not all of it, and `left` how many folders in storage are not as they must be.

    `copies` of the index are from before.
    """

    id: str
    images: int
    left: int
    reason: str | None
    copies: list[str]


async def erase_user(settings: Settings, name: str, confirm: str) -> Erased:
    """Delete a user and all that is kept of it. Raises ConfigError, and ProxyError where nothing was changed."""
    data_dir = settings.server.data_dir
    async with open_house(settings) as house:
        await check_pair(house.index, house.storage)
        deleted = await house.index.write(
            lambda tx: erasing.delete_user(tx, people.find_user(tx, name), confirm)
        )
        upkeep = upkeep_of(house, TaskKeeper(), partial(forget_thumbnails, data_dir / "thumbnails"))
        reason = None
        try:
            await erasing.Erasing(house.index, house.spool.partials, upkeep.nudge).finish()
        except ProxyError as exc:
            reason = exc.message
        left, why = await upkeep.sweep()
        if upkeep.elsewhere:
            left, why = left + upkeep.elsewhere, why or "another host may have it in its spool still"
    copies = sorted(str(path) for path in data_dir.glob(f"{INDEX_FILE}.before-*"))
    return Erased(deleted.id, deleted.images, left, reason or why, copies)
