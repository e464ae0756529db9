"""How an operator names a storage: `local`, `s3`, `s3://BUCKET/PREFIX`, a settings file, or a folder."""

from __future__ import annotations

import os
from pathlib import Path

from pixie_proxy.config import Settings, load_settings
from pixie_proxy.errors import ConfigError

_S3_URL = "s3://"


def place(named: str, config: Path | None = None, data_dir: Path | None = None) -> Settings:
    """Give settings whose storage is the one that is named. Raises ConfigError.

    `local` and `s3` are those of the settings, whatever `storage.kind` says; another bucket has their access key. A
    settings file stands for itself: no variable `PIXIE_…__…` goes over it.
    """
    if named.endswith((".yaml", ".yml")):
        return settings_of(Path(named), data_dir)
    return load_settings(config, flags={"server.data_dir": data_dir, **_said(named)})


def settings_of(path: Path, data_dir: Path | None = None) -> Settings:
    """Read a settings file that stands for itself. Raises ConfigError."""
    return load_settings(path, environ=_plain_environment(), flags={"server.data_dir": data_dir})


def spoken(settings: Settings) -> str:
    """Name a storage as its own, without secrets."""
    storage = settings.storage
    if storage.kind == "local":
        return str(settings.storage_path)
    where = f" at {storage.s3.endpoint_url}" if storage.s3.endpoint_url else ""
    return f"{_S3_URL}{'/'.join(filter(None, (storage.s3.bucket, storage.s3.prefix)))}{where}"


def check_apart(source: Settings, target: Settings) -> None:
    """See that neither storage is the other, or lies in it. Raises ConfigError."""
    kind = source.storage.kind
    if kind != target.storage.kind:
        return
    if kind == "local":
        one, other = source.storage_path.resolve(), target.storage_path.resolve()
        is_apart = not (one.is_relative_to(other) or other.is_relative_to(one))
    else:
        is_apart = spoken(source) != spoken(target)
    if not is_apart:
        raise ConfigError(f"storage copy: {spoken(target)} is where the images are now. Nothing was changed")


def _said(named: str) -> dict[str, object]:
    """Give what a name says over the settings."""
    if named in {"local", "s3"}:
        return {"storage.kind": named}
    if named.startswith(_S3_URL):
        bucket, _, prefix = named.removeprefix(_S3_URL).partition("/")
        return {"storage.kind": "s3", "storage.s3.bucket": bucket, "storage.s3.prefix": prefix}
    return {"storage.kind": "local", "storage.path": named}


def _plain_environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not (name.startswith("PIXIE_") and "__" in name)
    }
