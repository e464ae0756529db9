"""Calls that are made durable as fast as the disk allows, by the product's own spool, index and storage.

A program for power cuts: `python -m tests.support.keeper DATA_DIR`. Every line on stdin forks a process that recovers,
says `ready <pid>`, and then says `<request id> <sha256>` of each image at the moment when its last byte might leave.
A fork costs a tenth of what a start does.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time
from pathlib import Path
from random import Random

from pixie_proxy.index import ledger, users
from pixie_proxy.index.sqlite import open_sqlite
from pixie_proxy.index.users import StoredUser
from pixie_proxy.records import CallRecord, Settlement, StoredImage, new_id
from pixie_proxy.spool.area import Spool
from pixie_proxy.spool.call import StoredName
from pixie_proxy.spool.finish import Finisher
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.spool.recovery import Recovery
from pixie_proxy.storage import SENTINEL
from pixie_proxy.storage.local import LocalStorage
from pixie_proxy.threads import WorkerThreads

CLIENTS = 8
OWNER = StoredUser(id="usr_" + "0" * 26, name="ann", role="member", created_us=1, limits={})


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Keeper:
    """One process's life: recovery, then calls until somebody cuts the power."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._random = Random(time.time_ns())
        self._writers = WorkerThreads(16, "durable")
        self._spool = Spool(data_dir / "spool", self._writers)

    async def live(self) -> None:
        data_dir = self._data_dir
        (data_dir / "storage").mkdir(parents=True, exist_ok=True)
        storage = LocalStorage(data_dir / "storage", self._writers)
        if not (data_dir / "storage" / SENTINEL).exists():
            await storage.put(SENTINEL, b"of a power test\n")
        self._index = await open_sqlite(data_dir / "pixie.db", lock_path=data_dir / "pixie.lock")
        await self._index.write(lambda tx: users.add_user(tx, OWNER))
        self._spool.open()
        self._finisher = Finisher(self._index, storage)
        await Recovery(self._spool, self._index, storage, self._finisher, self._writers).once()
        say("ready", os.getpid())
        await asyncio.gather(*[self._client() for _ in range(CLIENTS)])

    async def _client(self) -> None:
        while True:
            await self._call()

    async def _call(self) -> None:
        call = CallRecord(
            id=new_id("req"),
            user_id=OWNER.id,
            key_id=None,
            kind="generation",
            requested_model=None,
            model="m",
            prompt="a fox",
            params={},
            images_asked=1,
            is_stream=False,
            fingerprint="f",
            idempotency_key=None,
            hold_micros=5,
            process=self._spool.process,
            created_us=time.time_ns() // 1000,
        )
        await self._index.write(lambda tx: ledger.insert(tx, call, "sent"))
        spooled = self._spool.call(call.id, b"{}")
        names = {}
        hashes = []
        for slot in range(self._random.randint(1, 3)):
            data = b"\x89PNG\r\n\x1a\n" + self._random.randbytes(self._random.choice([1000, 10_000, 60_000]))
            spooled.begin(slot, "image/png")
            spooled.add(slot, data)
            spooled.end(slot)
            names[slot] = StoredName(new_id("img"), slot)
            hashes.append(hashlib.sha256(data).hexdigest())
            if self._random.random() < 0.3:
                await spooled.keep(names)

        def manifest(images: tuple[StoredImage, ...]) -> Manifest:
            end = Settlement(
                request_id=call.id,
                state="done",
                settled_us=call.created_us,
                cost_micros=3,
            )
            return Manifest(
                call=call, owner_name=OWNER.name, visibility="team", settlement=end, images=images
            )

        images = await spooled.seal(names, lambda images: manifest(images).to_json())
        for sha256 in hashes:
            say(call.id, sha256)
        await self._finisher.keep(manifest(images), spooled.folder)


def main() -> None:
    for _ in sys.stdin:
        if child := os.fork():
            os.waitpid(child, 0)
            say("gone")
            continue
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what it says of a disk that is gone is of no interest
        try:
            asyncio.run(Keeper(Path(sys.argv[1])).live())
        finally:
            time.sleep(60)  # whoever cut the power kills us: until then, nothing is closed cleanly


if __name__ == "__main__":
    main()
