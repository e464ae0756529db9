"""What a backup's own files say: backup.json about the whole, SHA256SUMS about each file.

`sha256sum -c` can read the latter: a backup can be checked without us.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson

from pixie_proxy.disk import fsync_directory, write_durably
from pixie_proxy.errors import ConfigError
from pixie_proxy.storage import IMAGES

OBJECT = "pixie.backup"
VERSION = 1

RECORD = "backup.json"
MARK = ".pixie-backup"
SUMS = "SHA256SUMS"
INDEX = "pixie.db"
SPOOL = "spool"

STATE_PREFIX = "state-"
"""In a backup state.json has a name that its bytes give, so that it never changes either."""

RUN_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")
_SUM = re.compile(r"([0-9a-f]{64})  ([\w.-]+(?:/[\w.-]+)+)\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What backup.json says. `run` is the folder of the run that made it; `made_us` is the moment of its index copy.

    `missing` images were nowhere, `damaged` ones were copied as they were found.
    """

    pixie: str
    made_us: int
    run: str
    schema: int
    storage_id: str
    has_images: bool
    images: int
    files: int
    size_bytes: int
    image_bytes: int
    spooled_calls: int
    missing: int
    damaged: int
    sums_sha256: str

    def write(self, target: Path) -> None:
        """Make the backup whole: from now on this is the one that the folder holds."""
        made = f"{datetime.fromtimestamp(self.made_us // 1_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"
        said = {"object": OBJECT, "version": VERSION, "made": made, **asdict(self)}
        part = target / f"{RECORD}.part"
        write_durably(part, orjson.dumps(said, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        part.rename(target / RECORD)
        fsync_directory(target)

    @classmethod
    def read(cls, target: Path) -> Self | None:
        """Read what a folder holds; None if no backup of it was ever ended. Raises ConfigError."""
        try:
            said: dict[str, Any] = orjson.loads((target / RECORD).read_bytes())
            version = said.pop("version") if said.pop("object") == OBJECT else None
            if version == VERSION:
                del said["made"]
                found = cls(**said)
                if RUN_NAME.fullmatch(found.run):
                    return found
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            version = None
        if version is not None:
            raise ConfigError(
                f"{target}: a newer version of pixie made this backup: restore it with that one"
            )
        raise ConfigError(f"{target / RECORD}: it can't be read: the backup is damaged")


class Sum(NamedTuple):
    """A file of a backup: its path in the folder, and its SHA-256 in hex."""

    path: str
    sha256: str

    def line(self) -> str:
        """Write it as `sha256sum` does."""
        return f"{self.sha256}  {self.path}\n"


def read_sums(target: Path, record: Record) -> Iterator[Sum]:
    """Give the files of a backup in their order. Raises ConfigError where a line can't be read."""
    with (target / record.run / SUMS).open(encoding="utf-8") as lines:
        for line in lines:
            found = _SUM.fullmatch(line)
            if found is None or ".." in found[2].split("/"):
                raise ConfigError(f"{target / record.run / SUMS}: it can't be read: the backup is damaged")
            yield Sum(found[2], found[1])


async def folder_sums(target: Path, record: Record | None) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """Give each request's folder of a backup, in the order of their refs, with the digests of its files by name."""
    if record is None:
        return
    images = (found for found in read_sums(target, record) if found.path.startswith(f"{IMAGES}/"))
    for ref, files in groupby(images, key=lambda found: found.path.rpartition("/")[0]):
        yield ref, {found.path.rpartition("/")[2]: found.sha256 for found in files}
