"""A real PostgreSQL for tests: one server a test session (an xdist worker), one database a test.

A server is 0.6 s, a database 30 ms: it is a copy of one that has the schema already. Crashes and restarts have servers
of their own.
"""

from __future__ import annotations

import os
import pwd
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from pixie_proxy.index.postgres.schema import migrate
from pixie_proxy.index.postgres.target import Target
from tests.support.sockets import free_port

BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/bin"))
PROGRAMS = tuple(str(BIN / name) for name in ("initdb", "pg_ctl", "postgres"))

INTEGRITY = (sqlite3.IntegrityError, psycopg.IntegrityError)
"""What a work meets that the schema does not allow, whatever the database."""

_TEMPLATE = "pixie_template"
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",  # no power fails here; what a crash of the server's processes takes is the same
    "max_connections": "200",
    "shared_buffers": "32MB",
}

_urls: dict[Path, str] = {}
"""Where the index of a data directory is, unless in its pixie.db: for whoever looks at it from outside."""


def url_of(data_dir: Path) -> str | None:
    """Give the address of the database that a test chose for a data directory."""
    return _urls.get(data_dir)


def section_of(data_dir: Path) -> dict[str, Any]:
    """Give the section `index` of the settings for a data directory."""
    return {"url": url} if (url := url_of(data_dir)) else {}


def environment_of(data_dir: Path) -> dict[str, str]:
    """Give the same as variables, for a command."""
    return {"PIXIE_INDEX__URL": url} if (url := url_of(data_dir)) else {}


def rows(url: str, sql: str) -> list[dict[str, Any]]:
    """Read from a database."""
    with psycopg.connect(url, row_factory=dict_row) as link:
        return [*link.execute(sql.encode())]


def execute(url: str, sql: str) -> None:
    """Change a database, or do what is no transaction."""
    with psycopg.connect(url, autocommit=True) as link:
        link.execute(sql.encode())


class Server:
    """A PostgreSQL server in a folder of its own; it trusts everybody on the loopback."""

    def __init__(self, folder: Path, **options: str) -> None:
        """Make it; `start` starts it."""
        self.folder = folder
        self.port = free_port()
        self._options = _OPTIONS | options
        self._names = count()
        self._run(
            "initdb", "-D", self._data, "-A", "trust", "-U", "postgres", "-N", "--no-locale", "-E", "UTF8"
        )

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    @property
    def pid(self) -> int:
        """Give the process that all others of the server come from."""
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let all of its processes stand still meanwhile: connections stay, and nothing answers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        processes = [self.pid, *map(int, children)]  # first the one that would begin others
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def files_with(self, secret: bytes) -> list[str]:
        """Name the files of databases that hold these bytes; the server's log of changes is none of them."""
        found = (self.folder / "data" / "base").rglob("*")
        return [str(path) for path in found if path.is_file() and secret in path.read_bytes()]

    def start(self) -> None:
        """Start, or recover from a crash, and wait until it takes connections."""
        options = " ".join(f"-c {name}={value}" for name, value in self._options.items())
        log = str(self.folder / "log")
        self._run(
            "pg_ctl",
            "-D",
            self._data,
            "-w",
            "-l",
            log,
            "-o",
            f"-p {self.port} -k {self.folder} {options}",
            "start",
        )

    def stop(self, mode: str = "fast") -> None:
        """Stop; `immediate` is a crash."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def url(self, database: str = "postgres") -> str:
        """Write the address of a database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def execute(self, sql: str, database: str = "postgres") -> None:
        """Run a statement that is no transaction."""
        execute(self.url(database), sql)

    def make_template(self) -> None:
        """Make the database that those of tests are copies of."""
        self.execute(f"CREATE DATABASE {_TEMPLATE}")
        link, _ = Target.of(self.url(_TEMPLATE)).connect()
        with link:
            migrate(link)

    def database(self, *, is_empty: bool = False, tablespace: str = "pg_default") -> str:
        """Make a database for a test, with an empty index in it; give its address."""
        name, template = f"test_{next(self._names)}", "template1" if is_empty else _TEMPLATE
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} TABLESPACE {tablespace}")
        return self.url(name)

    @contextmanager
    def tablespace(self, folder: Path) -> Iterator[str]:
        """Let databases lie in a folder of their own; give its name."""
        name = f"in_{folder.name}"
        _give_to_postgres(folder)
        self.execute(f"CREATE TABLESPACE {name} LOCATION '{folder}'")
        try:
            yield name
        finally:
            self.execute(f"DROP TABLESPACE {name}")

    def keep_index(self, data_dir: Path, *, is_empty: bool = False, tablespace: str = "pg_default") -> str:
        """Let all that a test runs on a data directory keep its index in a database of its own; give its address."""
        _urls[data_dir] = self.database(is_empty=is_empty, tablespace=tablespace)
        return _urls[data_dir]

    def share_index(self, data_dir: Path, other: Path) -> None:
        """Let another host keep its index where this one does."""
        _urls[other] = _urls[data_dir]

    def forget(self, data_dir: Path) -> None:
        """Drop the database of a data directory."""
        self.drop(_urls.pop(data_dir))

    def drop(self, url: str) -> None:
        """Drop a database, whoever is connected to it."""
        self.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [BIN / program, *arguments],
            user="postgres" if os.getuid() == 0 else None,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if program == "initdb" else subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, (program, done.stdout, _tail(self.folder / "log"))


@contextmanager
def running_postgres(parent: Path | None = None, **options: str) -> Iterator[Server]:
    """Run a server. Its socket's path must be short, and no other user may have to enter pytest's folder."""
    with tempfile.TemporaryDirectory(prefix="pixie-pg-", dir=parent, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        _give_to_postgres(folder)
        server = Server(folder, **options)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


def _give_to_postgres(folder: Path) -> None:
    """Give a folder to the user that the server runs as, which is never root."""
    if os.getuid() == 0:
        found = pwd.getpwnam("postgres")
        os.chown(folder, found.pw_uid, found.pw_gid)


def _tail(path: Path) -> str:
    return path.read_text()[-2000:] if path.exists() else ""
