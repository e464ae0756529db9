"""Open storage, index and upstream from the settings: the only file that names implementations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixie_proxy.config import Settings
from pixie_proxy.disk import fsync_directory
from pixie_proxy.disk.watch import Disk
from pixie_proxy.errors import ConfigError
from pixie_proxy.index import Index
from pixie_proxy.index.checkup import Checkup, look_at_index
from pixie_proxy.index.places import Place, SqlitePlace
from pixie_proxy.index.sqlite import integrity_fault, open_sqlite
from pixie_proxy.storage import Storage
from pixie_proxy.storage.local import LocalStorage
from pixie_proxy.threads import WorkerThreads
from pixie_proxy.upstream import Upstream
from pixie_proxy.upstream.openai import OpenAIUpstream

INDEX_FILE = "pixie.db"
LOCK_FILE = "pixie.lock"
OPENAI_URL = "https://api.openai.com/v1"


def prepare_data_dir(settings: Settings) -> None:
    """Make the data directory and see that it can be written. Raises ConfigError with the remedy."""
    data_dir = settings.server.data_dir
    if (
        settings.server.require_existing
        and not is_postgres(settings)
        and not (data_dir / INDEX_FILE).exists()
    ):
        raise ConfigError(
            f"server.data_dir: {data_dir} holds no pixie.db, and server.require_existing is on: "
            "mount the volume, or turn the setting off for the very first start"
        )
    probe = data_dir / ".writable"
    try:
        _make_directory(data_dir)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as exc:
        raise ConfigError(_unwritable(data_dir, exc)) from None


def open_storage(
    settings: Settings,
    writers: WorkerThreads,
    data_disk: Disk | None,
    *,
    must_exist: bool = False,
    makes: bool = True,
) -> Storage:
    """Open the storage of the settings. Raises ConfigError.

    A folder is made if it must be, unless it `must_exist` or nothing `makes` it: then it is an empty storage. A bucket
    never is.
    """
    if settings.storage.kind == "s3":
        from pixie_proxy.storage.bucket import Bucket
        from pixie_proxy.storage.s3 import S3Storage

        s3 = settings.storage.s3
        return S3Storage(Bucket(s3), redirects=s3.serve == "redirect")
    path = settings.storage_path
    if must_exist and not path.is_dir():
        raise ConfigError(f"storage.path: {path} is not there: is it mounted?")
    try:
        if makes:
            _make_directory(path)
    except OSError as exc:
        raise ConfigError(f"storage.path: {path} can't be made ({exc.strerror})") from None
    is_beside = data_disk is not None and path.stat().st_dev == settings.server.data_dir.stat().st_dev
    return LocalStorage(path, writers, beside=data_disk if is_beside else None)


async def open_index(
    settings: Settings, disk: Disk | None = None, *, read_limit_s: float | None = None
) -> Index:
    """Open the index of the settings, made or migrated if need be. Raises ConfigError, IndexUnavailable.

    No read takes longer than `read_limit_s`: it is ended with IndexUnavailable.
    """
    if settings.index.url is not None:
        with postgres():
            from pixie_proxy.index.postgres import open_postgres

            return await open_postgres(
                settings.index.url.get_secret_value(),
                connections=settings.index.connections,
                must_exist=settings.server.require_existing,
                read_limit_s=read_limit_s,
            )
    data_dir = settings.server.data_dir
    return await open_sqlite(
        data_dir / INDEX_FILE, lock_path=data_dir / LOCK_FILE, disk=disk, read_limit_s=read_limit_s
    )


def check_index(settings: Settings) -> None:
    """See that a SQLite index, if there is one, is whole. Raises ConfigError with the way out."""
    path = settings.server.data_dir / INDEX_FILE
    if not is_postgres(settings) and path.exists() and (fault := integrity_fault(path)) is not None:
        raise ConfigError(
            f"index: {path} is damaged ({fault}): stop the server, restore a backup, or move pixie.db* aside "
            "and run: pixie reindex --apply. Nothing was changed"
        )


def examine_index(settings: Settings) -> Checkup | None:
    """Look at the index from outside; None where there is none. Blocks. Raises ConfigError, IndexUnavailable."""
    if settings.index.url is not None:
        with postgres():
            from pixie_proxy.index.postgres.checkup import look_at_postgres

            return look_at_postgres(settings.index.url.get_secret_value())
    data_dir = settings.server.data_dir
    path = data_dir / INDEX_FILE
    return look_at_index(path, data_dir / LOCK_FILE) if path.exists() else None


def has_index(settings: Settings) -> bool:
    """Tell whether an index was ever made here. Blocks. Raises ConfigError, IndexUnavailable."""
    if is_postgres(settings):
        return examine_index(settings) is not None
    return (settings.server.data_dir / INDEX_FILE).exists()


def is_postgres(settings: Settings) -> bool:
    """Tell whether the index is in PostgreSQL; else it is a file in the data directory."""
    return settings.index.url is not None


def open_upstream(settings: Settings) -> Upstream:
    """Open the door to the upstream. Raises ConfigError when OpenAI's has no key."""
    upstream = settings.upstream
    if upstream.base_url == OPENAI_URL and upstream.api_key is None:
        raise ConfigError(
            "upstream.api_key: no OpenAI key. Set the environment variable OPENAI_API_KEY, "
            "or try the proxy without one: pixie demo"
        )
    return OpenAIUpstream(upstream)


def index_file(settings: Settings) -> SqlitePlace:
    """Name the file that a SQLite index of these settings is in."""
    return SqlitePlace(settings.server.data_dir / INDEX_FILE)


def index_place(settings: Settings) -> Place:
    """Name where the index of the settings is, as a whole. Raises ConfigError."""
    if settings.index.url is None:
        return index_file(settings)
    with postgres():
        from pixie_proxy.index.postgres.place import PostgresPlace
    return PostgresPlace(settings.index.url.get_secret_value())


@contextmanager
def postgres() -> Iterator[None]:
    """Import what only PostgreSQL needs in here. Raises ConfigError where it is not installed."""
    try:
        yield
    except ImportError as exc:
        if exc.name != "psycopg":
            raise
        raise ConfigError(
            "index.url: PostgreSQL needs the extra 'postgres': pip install 'pixie_proxy[postgres]'"
        ) from None


def _make_directory(path: Path) -> None:
    """Make a directory that only we may enter, and its name durable: all that we keep lies below it."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        fsync_directory(path.parent)


def _unwritable(path: Path, exc: OSError) -> str:
    return (
        f"server.data_dir: {path} can't be written ({exc.strerror}); we run as uid {os.getuid()}. "
        f"Remedy: chown -R {os.getuid()} {path} on the host, or mount a volume that this user may write"
    )
