"""Named failpoints (R3): a proxy that dies, by SIGKILL, right before or after one step on disk that a test names.

Nothing of this is in the product. `Failpoints.prefix` starts this file as a script in the proxy's place: it wraps what
touches disk and index (`os.open` that creates, `write`, `fsync`, `rename`, `replace`, `unlink`, `rmdir`, `mkdir`, and
SQLite's COMMIT; on S3 also each PUT), and then runs `pixie serve` as it is. Every step has a name by the role of its
file:

    fsync spool/PROCESS/CALL/0.part after
    rename spool/PROCESS/CALL -> storage/images/DAY/CALL before
    commit accounts+requests+images after
    put images/DAY/CALL/request.json before
"""

from __future__ import annotations

import os
import re
import runpy
import signal
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

_ROLES = [
    (re.compile(r"\breq_[0-9a-v]{26}\b"), "CALL"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "PROCESS"),
    (re.compile(r"\b\d{4}/\d\d/\d\d\b"), "DAY"),
    (re.compile(r"(?<=images/)\d{4}(/\d\d)?$"), "MONTH"),
    (re.compile(r"\btmp[^/]*$"), "TEMPORARY"),
]
_WRITES = re.compile(r"(?:INSERT INTO|UPDATE|DELETE FROM)\s+(\w+)")


class Point(NamedTuple):
    """The n-th time (from 1) that a step is reached."""

    name: str
    n: int

    def __str__(self) -> str:
        return f"{self.name} #{self.n}"


class Failpoints:
    """A test's side: what a proxy has reached, and where it shall die."""

    def __init__(self, folder: Path, data_dir: Path, *, on_s3: bool = False) -> None:
        folder.mkdir()
        self._armed, self._reached = folder / "armed", folder / "reached"
        self._armed.write_text("")
        self._reached.write_text("")
        self.prefix = (sys.executable, __file__, str(folder), str(data_dir), "s3" if on_s3 else "local")

    def arm(self, point: Point | None) -> None:
        """Name the point at which the proxy dies, counted from now; None disarms."""
        text = "" if point is None else f"{point.name}\n{point.n}"
        fresh = self._armed.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(self._armed)

    def forget(self) -> None:
        """Count what is reached from here on."""
        os.truncate(self._reached, 0)

    def reached(self) -> list[Point]:
        """Give every point since `forget`, in order."""
        seen: Counter[str] = Counter()
        points = []
        for name in self._reached.read_text().splitlines():
            seen[name] += 1
            points.append(Point(name, seen[name]))
        return points


# --- In the proxy's process -------------------------------------------------------------------------------------------


class _Bombs:
    """Notes every point, and dies at the armed one."""

    def __init__(self, folder: Path, data_dir: str) -> None:
        self._data_dir = data_dir + "/"
        self._armed = str(folder / "armed")
        self._log = os.open(folder / "reached", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._write, self._open, self._read, self._close = os.write, os.open, os.read, os.close
        self._lock = threading.Lock()
        self._wanted, self._left = "", 0
        self._text = b""

    def role(self, path: Any, dir_fd: int | None = None) -> str | None:
        """Give a path's name in points; None if it is not in the data directory."""
        if isinstance(path, int):
            found = str(_path_of(path))
        else:
            found = str(path if dir_fd is None else _path_of(dir_fd) / path)
        return named(found.removeprefix(self._data_dir)) if found.startswith(self._data_dir) else None

    def around(self, name: str, work: Callable[[], Any]) -> Any:
        """Do a step between its two points."""
        self.reach(f"{name} before")
        result = work()
        self.reach(f"{name} after")
        return result

    def reach(self, name: str) -> None:
        with self._lock:
            self._write(self._log, name.encode() + b"\n")
            descriptor = self._open(self._armed, os.O_RDONLY)
            text = self._read(descriptor, 4096)
            self._close(descriptor)
            if text != self._text:
                self._text = text
                wanted, _, count = text.decode().partition("\n")
                self._wanted, self._left = wanted, int(count or 0)
            if name == self._wanted:
                self._left -= 1
                if self._left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)


def named(path: str) -> str:
    """Give a path by the roles of its parts."""
    for pattern, name in _ROLES:
        path = pattern.sub(name, path)
    return path


def _path_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def _plant(bombs: _Bombs) -> None:
    """Wrap every step on disk and every commit."""

    def one_path(name: str) -> None:
        original = getattr(os, name)

        def wrapped(path: Any, *args: Any, **options: Any) -> Any:
            is_look = name == "open" and not args[0] & os.O_CREAT
            role = None if is_look else bombs.role(path, options.get("dir_fd"))
            if role is None:
                return original(path, *args, **options)
            return bombs.around(f"{name} {role}", lambda: original(path, *args, **options))

        setattr(os, name, wrapped)

    def two_paths(name: str) -> None:
        original = getattr(os, name)

        def wrapped(source: Any, target: Any, **options: Any) -> Any:
            role = f"{name} {bombs.role(source)} -> {bombs.role(target)}"
            return bombs.around(role, lambda: original(source, target, **options))

        setattr(os, name, wrapped)

    for name in ("open", "write", "fsync", "unlink", "rmdir", "mkdir"):
        one_path(name)
    for name in ("rename", "replace"):
        two_paths(name)

    class Connection(sqlite3.Connection):
        tables: list[str]

        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            if sql.startswith("BEGIN"):
                self.tables = []
            elif sql == "COMMIT" and self.tables:
                name = "commit " + "+".join(dict.fromkeys(self.tables))
                cursor: sqlite3.Cursor = bombs.around(
                    name, lambda: super(Connection, self).execute(sql, *args)
                )
                return cursor
            elif found := _WRITES.match(sql):
                self.tables.append(found[1])
            return super().execute(sql, *args)

    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **options: connect(*args, **options, factory=Connection)  # type: ignore[assignment]


def _plant_on_s3(bombs: _Bombs) -> None:
    """Wrap every PUT, all tries of it together."""
    from pixie_proxy.storage.bucket import Bucket

    put = Bucket.put

    async def wrapped(self: Bucket, key: str, *args: Any, **options: Any) -> None:
        bombs.reach(f"put {named(key)} before")
        await put(self, key, *args, **options)
        bombs.reach(f"put {named(key)} after")

    Bucket.put = wrapped  # type: ignore[method-assign]


def _main() -> None:
    folder, data_dir, storage, _python, _m, module, *arguments = sys.argv[1:]
    sys.path[0] = str(Path.cwd())
    bombs = _Bombs(Path(folder), data_dir)
    _plant(bombs)
    if storage == "s3":
        _plant_on_s3(bombs)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
