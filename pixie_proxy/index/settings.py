"""The queries for single values: the storage id, secrets, and what else there is one of."""

from __future__ import annotations

from pixie_proxy.index import Tx


def get(tx: Tx, name: str) -> str | None:
    """Read a value."""
    row = tx.one("SELECT value FROM settings WHERE name = :name", name=name)
    return None if row is None else row["value"]


def put(tx: Tx, name: str, value: str) -> None:
    """Write a value over the old one."""
    tx.run(
        "INSERT INTO settings (name, value) VALUES (:name, :value)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        name=name,
        value=value,
    )


def count_up(tx: Tx, name: str) -> None:
    """Add one to a value, which is a number. Who does so is alone with it until its transaction ends."""
    tx.run(
        "INSERT INTO settings (name, value) VALUES (:name, '1') ON CONFLICT (name) DO UPDATE"
        " SET value = CAST(CAST(settings.value AS BIGINT) + 1 AS TEXT)",
        name=name,
    )


def put_if_absent(tx: Tx, name: str, value: str) -> str:
    """Write a value unless there is one, and return the one that is there now: racing processes agree on it."""
    tx.run(
        "INSERT INTO settings (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING",
        name=name,
        value=value,
    )
    return get(tx, name) or value
