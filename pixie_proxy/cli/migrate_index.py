"""`pixie migrate-index`: bring the index from SQLite to PostgreSQL, or back, verified row by row."""

from __future__ import annotations

import time
from pathlib import Path

import click

from pixie_proxy import backends
from pixie_proxy.cli.accounts import json_option, show_json, show_table
from pixie_proxy.cli.auditing import progress
from pixie_proxy.cli.options import config_options
from pixie_proxy.cli.places import settings_of
from pixie_proxy.config import Settings, load_settings
from pixie_proxy.errors import ConfigError
from pixie_proxy.index.migrate import newest_schema
from pixie_proxy.index.places import Place, SqlitePlace
from pixie_proxy.index.transfer import Moved, count, is_empty, transfer
from pixie_proxy.spool.area import is_alive, processes_in

_PLACE = "sqlite|postgres|postgresql://…|FILE|FILE.yaml"
_NAMES = ("postgresql://", "postgres://")


@click.command("migrate-index")
@click.option("--from", "source", required=True, metavar="PLACE", help=f"Where the index is: {_PLACE}")
@click.option(
    "--to", "target", required=True, metavar="PLACE", help="Where it shall be; nothing may be there yet"
)
@json_option
@config_options
def command(source: str, target: str, *, as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """Copy the index into another database: users, keys, ledger, budgets, images, links. The source is not changed.

    \b
    sqlite         the file of the settings (<data_dir>/pixie.db)
    postgres       the database of the settings (index.url)
    postgresql://  another database; its password from PGPASSWORD or ~/.pgpass, never from here
    FILE           another SQLite file, such as /var/lib/pixie/pixie.db
    FILE.yaml      the index of another settings file

    \b
    Stop the proxy, move, name the new place in the settings, start:
      pixie migrate-index --from sqlite --to postgresql://pixie@db.example.org/pixie
      pixie migrate-index --from postgres --to /var/lib/pixie/pixie.db

    \b
    All of it is read as it is at one moment, written, read again from both and compared row by row; only then it is
    there at all. What is broken off or killed leaves nothing behind: run the same again. A source that a proxy works
    with, and a target that is not empty, are refused. Images stay where they are (pixie storage copy).

    Exit code: 0 all of it is there, 1 a database can't be reached, 2 it can't be done so.
    """  # noqa: D301 - click takes \b for «keep these lines»
    settings = load_settings(config, flags={"server.data_dir": data_dir})
    here, there = _place(source, settings), _place(target, settings)
    if here.spoken == there.spoken:
        raise ConfigError(f"migrate-index: {there.spoken} is where the index is now. Nothing was changed")
    begun = time.monotonic()
    _check(here, there)
    with here.snapshot() as old, there.fresh() as new:
        if not is_empty(new):
            raise ConfigError(
                f"migrate-index: {there.spoken} is not empty: give a new file, or a new database. Nothing was changed"
            )
        with progress("Copying", 2 * count(old), unit="rows") as advance:
            moved = transfer(old, new, advance)
        _check_unserved(here, there)  # once more, before it is there
    seconds = round(time.monotonic() - begun, 1)
    if as_json:
        show_json(
            {
                "object": "index_migration",
                "from": here.spoken,
                "to": there.spoken,
                "rows": sum(each.rows for each in moved),
                "seconds": seconds,
                "tables": [each._asdict() for each in moved],
            }
        )
    else:
        _show(moved, there, seconds)


def _place(named: str, settings: Settings) -> Place:
    """Understand how an operator names an index. Raises ConfigError."""
    if named.endswith((".yaml", ".yml")):
        settings = settings_of(Path(named))
        named = "postgres" if backends.is_postgres(settings) else "sqlite"
    if named == "sqlite":
        return SqlitePlace(settings.server.data_dir / backends.INDEX_FILE)
    if named == "postgres":
        if not backends.is_postgres(settings):
            raise ConfigError(
                "migrate-index: index.url is empty: which database is meant? Nothing was changed"
            )
        return backends.index_place(settings)
    if not named.startswith(_NAMES):
        path = Path(named.removeprefix("sqlite://"))
        return SqlitePlace(path / backends.INDEX_FILE if path.is_dir() else path)
    with backends.postgres():
        from pixie_proxy.index.postgres.place import PostgresPlace
    database = PostgresPlace(named)
    if database.target.has_password:
        raise ConfigError(
            "migrate-index: everybody on this host can read a command line: leave the password out of it (PGPASSWORD, "
            "or ~/.pgpass), or say postgres, which is index.url of the settings. Nothing was changed"
        )
    return database


def _check(here: Place, there: Place) -> None:
    """See that the index may be copied. Raises ConfigError."""
    found, known = here.schema(), newest_schema()
    if found == 0:
        raise ConfigError(f"migrate-index: {here.spoken} holds no index. Nothing was changed")
    if found != known:
        raise ConfigError(
            f"migrate-index: {here.spoken} has schema {found}, this pixie_proxy knows {known}: "
            "start this version on it once. Nothing was changed"
        )
    if there.schema() not in {0, known}:
        raise ConfigError(
            f"migrate-index: {there.spoken} holds an index of another version. Nothing was changed"
        )
    _check_unserved(here, there)


def _check_unserved(here: Place, there: Place) -> None:
    """See that nobody writes what would be lost. Raises ConfigError."""
    for place in (here, there):
        if _is_served(place):
            raise ConfigError(
                f"migrate-index: a proxy works with {place.spoken}: stop it, or it writes what is not copied. "
                "Nothing was changed"
            )


def _is_served(place: Place) -> bool:
    """Tell whether a proxy works with an index, as far as that can be seen."""
    if not isinstance(place, SqlitePlace):
        return place.servers() > 0
    spool = place.path.parent / "spool"
    return spool.is_dir() and any(is_alive(spool, each.name) for each in processes_in(spool))


def _show(moved: list[Moved], there: Place, seconds: float) -> None:
    show_table(
        ("table", "rows", "sha256 of both"),
        [(each.table, f"{each.rows:,}", each.sha256[:16]) for each in moved],
    )
    rows = sum(each.rows for each in moved)
    click.echo(f"\n{there.spoken}: {rows:,} rows, each as it was, in {seconds:,} s.")
    setting = "index.url: null" if isinstance(there, SqlitePlace) else "index.url: postgresql://…"
    click.echo(f"Next: {setting} in the settings, then: pixie doctor, pixie serve")
