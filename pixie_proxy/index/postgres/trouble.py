"""PostgreSQL's trouble: what a client reads of it. A message of the server's own goes to the log at most."""

from __future__ import annotations

import psycopg

from pixie_proxy.index.trouble import unavailable

AWAY = "The index can't be reached. Try again in a few seconds."
_MAY_NOT = "The index may not be opened. Try again when the admin has mended its permissions."
_BUSY = "The index is locked by another program. Try again in a few seconds."
_DAMAGED = "The index is damaged. The admin must restore a backup of it."

ADVICE = {
    "08": AWAY,
    "28": _MAY_NOT,
    "53": "The server of the index is overloaded. Try again in a few seconds.",
    "57": AWAY,  # it shuts down, or starts
    "58": "The disk of the index fails. Try again when the admin has looked at its log.",
    "XX": _DAMAGED,
    "25006": "The index is read-only. Try again when the admin has looked at its server.",
    "25P02": "The index gave up what was asked. Try again in a few seconds.",
    "25P03": AWAY,
    "3D000": "The index does not exist. Try again when the admin has looked at index.url.",
    "40001": _BUSY,
    "40P01": _BUSY,
    "42501": _MAY_NOT,
    "53100": "The disk of the index is full. Try again when the admin has freed some room.",
    "55P03": _BUSY,
    "57014": "Reading the index took too long and was given up. Ask for less, or try again later.",
}
"""What a client reads when PostgreSQL can't work, by the code of an error or of its class; all else is our fault."""

_AGAIN = frozenset({"40001", "40P01"})
"""Who was in somebody's way has only to try again."""


def may_try_again(exc: BaseException) -> bool:
    """Tell whether a transaction failed for no reason of its own."""
    return isinstance(exc, psycopg.Error) and exc.sqlstate in _AGAIN


def translate(exc: BaseException) -> BaseException:
    """Turn PostgreSQL's trouble into `IndexUnavailable`; leave all else as it is."""
    if isinstance(exc, psycopg.Error):
        advice = _advice(exc)
        return exc if advice is None else unavailable(advice, exc)
    if isinstance(exc, StopIteration):  # asyncio refuses this one in a future
        return RuntimeError("a work raised StopIteration")
    return exc


def _advice(exc: psycopg.Error) -> str | None:
    code = exc.sqlstate
    if code is None:  # not the server's word, but our end's
        return AWAY if isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError) else None
    return ADVICE.get(code) or ADVICE.get(code[:2])
