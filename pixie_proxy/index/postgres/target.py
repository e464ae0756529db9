"""Where a PostgreSQL index is, and whether it may be one: each connection is made and looked at in here.

A server that acknowledges what it may lose, or can't keep every text, is refused at the start, and at any later moment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from pixie_proxy.errors import ConfigError, IndexUnavailable
from pixie_proxy.index.postgres.trouble import AWAY, translate
from pixie_proxy.index.postgres.tx import adapt
from pixie_proxy.index.trouble import unavailable

OLDEST = 13
"""Since this version a server tells what became of a transaction (pg_xact_status)."""
LOCK_TIMEOUT_MS = 5_000
"""How long a statement waits for others, as SQLite's busy timeout."""
IDLE_TIMEOUT_MS = 10_000
"""How long a transaction may stand still: of a proxy that was stopped or cut off its server takes the locks away."""

NAME, COPIER = "pixie_proxy", "pixie_proxy migrate-index"
"""What the server calls those who work with the index, and one who copies it as a whole."""

_DEFAULTS: dict[str, str | int] = {
    "connect_timeout": 5,
    "client_encoding": "utf8",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""What holds unless the address says otherwise: a network that is cut is noticed after 25 s at the latest."""

_LOOK = (
    "SELECT current_setting('server_version_num')::int / 10000 AS version,"
    " current_setting('server_version') AS version_text, current_setting('server_encoding') AS encoding,"
    " current_setting('fsync') AS fsync, pg_is_in_recovery() AS is_standby,"
    # Set to itself: what a reload of the server's settings changes later holds for later connections.
    " set_config('synchronous_commit', current_setting('synchronous_commit'), false) AS synchronous_commit,"
    # There is an index for each thing that is asked for. How much is said to match must not lead the planner past it: a
    # list that few images are in would be read from end to end. Nor is any query worth being compiled.
    " set_config('enable_seqscan', 'off', false), set_config('random_page_cost', '1.1', false),"
    " set_config('jit', 'off', false),"
    " set_config('lock_timeout', %(lock)s, false), set_config('statement_timeout', %(statement)s, false),"
    " set_config('idle_in_transaction_session_timeout', %(idle)s, false)"
)

Link = psycopg.Connection[dict[str, Any]]


class About(NamedTuple):
    """What a server says of itself."""

    version: int
    version_text: str
    encoding: str
    fsync: str
    is_standby: bool
    synchronous_commit: str

    @property
    def fault(self) -> str | None:
        """Say what keeps an index from being there, and the remedy."""
        if self.version < OLDEST:
            return f"index.url: PostgreSQL {self.version_text} is too old: use {OLDEST} or newer"
        if self.encoding != "UTF8":
            return (
                f"index.url: the database's encoding is {self.encoding}, it must be UTF8: make another one "
                "(CREATE DATABASE pixie ENCODING 'UTF8' TEMPLATE template0)"
            )
        if self.synchronous_commit == "off":
            return (
                "index.url: PostgreSQL runs with synchronous_commit = off, so a crash would lose what it has "
                "acknowledged: set it to on (ALTER DATABASE … SET synchronous_commit = on; or for the role, or in "
                "postgresql.conf)"
            )
        return None


@dataclass(frozen=True, slots=True)
class Target:
    """A database, by libpq's own parameters, of which the password is one: never show them."""

    _parameters: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, url: str) -> Target:
        """Read an address, or what else libpq takes. Raises ConfigError, without a word of it."""
        try:
            parameters = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            parameters = {}
        # A password with such characters as they are is taken for a host, a port or a database, and shown as one.
        is_whole = parameters and not any("@" in str(parameters.get(name, "")) for name in ("host", "dbname"))
        if not is_whole or not re.fullmatch(r"[0-9,]*", str(parameters.get("port", ""))):
            raise ConfigError(
                "index.url: it can't be understood: postgresql://USER:PASSWORD@HOST:PORT/DATABASE, and %XX for each "
                "character of the password that has a meaning in an address"
            )
        return cls(parameters)

    @property
    def spoken(self) -> str:
        """Name it without secrets."""
        said = self._parameters
        host, port = said.get("host") or said.get("hostaddr") or "localhost", said.get("port")
        return (
            f"postgresql://{host}{f':{port}' if port else ''}/{said.get('dbname') or said.get('user') or ''}"
        )

    @property
    def has_password(self) -> bool:
        """Tell whether the address itself holds a secret."""
        return "password" in self._parameters or "sslpassword" in self._parameters

    def connect(
        self, *, statement_timeout_ms: int = 0, is_patient: bool = False, name: str = NAME
    ) -> tuple[Link, About]:
        """Open a connection; one that `is_patient` waits for locks without an end. Blocks.

        Raises IndexUnavailable, and ConfigError where no index may be there.
        """
        try:
            link: Link = psycopg.connect(
                make_conninfo(**(_DEFAULTS | self._parameters | {"application_name": name})),
                autocommit=True,
                row_factory=dict_row,
            )
        except psycopg.Error as exc:
            error = translate(exc)
            raise (unavailable(AWAY, exc) if error is exc else error) from exc
        try:
            adapt(link)
            row = link.execute(
                _LOOK,
                {
                    "lock": str(0 if is_patient else LOCK_TIMEOUT_MS),
                    "statement": str(statement_timeout_ms),
                    "idle": str(IDLE_TIMEOUT_MS),
                },
            ).fetchone()
            about = About(**{name: (row or {})[name] for name in About._fields})
            if about.fault is not None:
                raise ConfigError(about.fault)
            if about.is_standby:
                message = "The server of the index is a standby, which is read-only."
                raise unavailable(message)
        except BaseException as exc:
            link.close()
            error = translate(exc)
            if error is exc:
                raise
            raise error from exc
        return link, about


def told(target: Target, exc: BaseException) -> IndexUnavailable:
    """Say to an operator what PostgreSQL said: its first line names host, user and database, and no password."""
    error = translate(exc)
    cause = exc.__cause__ if isinstance(exc, IndexUnavailable) else exc
    what = error.message.partition(". ")[0].rstrip(".") if isinstance(error, IndexUnavailable) else "It fails"
    said = str(cause).strip().partition("\n")[0] if isinstance(cause, psycopg.Error) else ""
    return unavailable(f"{target.spoken}: {what}" + (f" ({said})" if said else ""), cause)
