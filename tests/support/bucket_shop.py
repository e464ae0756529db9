"""A data directory whose images lie in a bucket, behind a network that breaks as told."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixie_proxy.config import S3Settings
from pixie_proxy.storage.bucket import Bucket
from tests.support import outside
from tests.support.proxy import RunningProxy, spawn_proxy
from tests.support.s3_relay import S3Relay
from tests.support.s3_servers import S3Server
from tests.support.waiting import eventually

_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketShop:
    """`s3` are the settings of a bucket of its own; behind `relay`, if there is one."""

    data: Path
    server: S3Server
    s3: dict[str, Any]
    relay: S3Relay | None = None

    @classmethod
    def open(cls, data: Path, server: S3Server, relay: S3Relay | None = None) -> BucketShop:
        """Make the bucket."""
        url = server.url if relay is None else relay.url
        return cls(data=data, server=server, relay=relay, s3=server.bucket(endpoint_url=url))

    @property
    def storage(self) -> dict[str, Any]:
        """The section of the settings."""
        return {"kind": "s3", "s3": self.s3}

    def spawn(
        self, upstream_url: str, *, prefix: tuple[str, ...] = (), **sections: Mapping[str, Any]
    ) -> AbstractAsyncContextManager[RunningProxy]:
        """Serve a proxy on it."""
        return spawn_proxy(self.data, upstream_url, prefix=prefix, storage=self.storage, **sections)

    async def settled(self, timeout_s: float = 60) -> None:
        """Wait until everything has ended and is in the bucket; then copy that to where local storage would be.

        So whoever looks at a data directory sees what is in the bucket, as the server itself has it.
        """
        await eventually(lambda: outside.is_settled(self.data), timeout_s)
        await self.copy()

    async def copy(self) -> None:
        """Copy the bucket, as it is now, to where local storage would be."""
        bucket = Bucket(S3Settings(**{**self.s3, "endpoint_url": self.server.url}))
        root = self.data / "storage"
        shutil.rmtree(root, ignore_errors=True)
        turns = asyncio.Semaphore(_AT_ONCE)

        async def fetch(key: str) -> None:
            async with turns:
                data = b"".join([piece async for piece in bucket.read(key)])
            path = root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

        async for page in bucket.walk(""):
            await asyncio.gather(*[fetch(file.ref) for file in page])
