"""Write the settings down from their own descriptions: `config.example.yaml` and `docs/configuration.md`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from pixie_proxy.config import DeclaredUser, Price, Settings

_WIDTH = 110

_EXAMPLE_HEAD = """\
# Every setting of pixie_proxy with its default; written by `pixie config example`, kept true by a test.
# `pixie serve` reads ./config.yaml, or what --config or PIXIE_CONFIG name. A few lines of this are enough: what is
# left out keeps its default. The environment goes over it (PIXIE_SERVER__PORT=9000), flags go over both.
# ${NAME} in a value is the environment's NAME, $$ is a $.
"""

_EXAMPLE_USER = """\
# users:
#   - name: ann
#     key: ${ANN_KEY}  # or key_sha256: the key's SHA-256 in hex
#     role: member  # admin, member or viewer
#     limits: {usd_per_month: 20}
"""

_DOCS_HEAD = """\
# Configuration

<!-- Written by `pixie config docs`; a test compares it with the code. -->

Nothing has to be set but `OPENAI_API_KEY`. The rest comes from four places, later ones win:

1. the defaults below;
2. a YAML file: `--config FILE`, else `PIXIE_CONFIG`, else `./config.yaml` where there is one
   ([config.example.yaml](../config.example.yaml) has every setting);
3. the environment: `PIXIE_`, the section, two underscores, the setting: `PIXIE_SERVER__PORT=9000`,
   `PIXIE_STORAGE__S3__BUCKET=images`. Lists and maps are JSON: `PIXIE_MODELS__ALLOW='["gpt-image-2"]'`. `null` is
   null, and an empty one says nothing. Names without two underscores are left alone, for Kubernetes sets some that begin
   with `PIXIE_`;
4. flags: `--host`, `--port`, `--data`.

`${NAME}` in a value of the file or the environment is the environment's `NAME`, or else the text of the file `NAME` in
the folder `CREDENTIALS_DIRECTORY`; `$$` is a `$`. An unknown setting or a bad value stops the start: exit code 2, and a
line for every problem.

Some things are set by the environment alone:

| Variable | What it does |
|---|---|
| `OPENAI_API_KEY` | The operator's key for the upstream, where `upstream.api_key` says nothing else |
| `CREDENTIALS_DIRECTORY` | A folder with a secret in each file. systemd sets it (`LoadCredential=`); for Docker's secrets set it to `/run/secrets` |
| `PIXIE_CONFIG` | The settings file |
| `PIXIE_ADMIN_KEY` | The key of the user `admin` that the very first start makes; without it a key is made up and written to `<data_dir>/admin.key` |
| `PIXIE_LOG_LEVEL` | What the log tells: `debug`, `info` (the default), `warning` or `error` |
"""  # noqa: E501 - a row of a table is one line


def example() -> str:
    """Give `config.example.yaml`: valid YAML that says what the defaults say."""
    return _EXAMPLE_HEAD + "".join(_example_lines(Settings, ""))


def docs() -> str:
    """Give `docs/configuration.md`."""
    return "".join([_DOCS_HEAD, *_docs_lines(Settings, "")])


def _example_lines(model: type[BaseModel], indent: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = _section(field)
        if not indent:
            yield "\n"
        help_text = (section.__doc__ or "") if section and not field.description else field.description or ""
        for line in textwrap.wrap(help_text.strip(), _WIDTH - len(indent)):
            yield f"{indent}# {line}\n"
        if section is None:
            yield f"{indent}{name}: {_yaml(_default(field))}\n"
            yield _EXAMPLE_USER if name == "users" else ""
        else:
            yield f"{indent}{name}:\n"
            yield from _example_lines(section, indent + "  ")


def _docs_lines(model: type[BaseModel], path: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = _section(field)
        if section is not None:
            yield from _table(f"{path}{name}", section)
            yield from _docs_lines(section, f"{path}{name}.")
        elif name == "users":
            yield from _table("users[]", DeclaredUser)
        elif name == "prices":
            yield from _table("models.prices.MODEL", Price)


def _table(title: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"\n## `{title}`\n\n{model.__doc__}\n\n| Setting | Default | What it does |\n|---|---|---|\n"
    for name, field in model.model_fields.items():
        if _section(field) is None:
            default = "required" if field.is_required() else f"`{_yaml(_default(field))}`"
            yield f"| `{name}` | {default} | {_cell(field.description or '')} |\n"


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """Give the model of a field that is a group of settings."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _default(field: FieldInfo) -> Any:
    value = field.default
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value.as_posix() if isinstance(value, Path) else value


def _yaml(value: object) -> str:
    """Write a default on one line: lists as JSON, texts quoted only where YAML would misread them."""
    if isinstance(value, list | dict):
        return json.dumps(value)
    return yaml.safe_dump(value, width=1000).removesuffix("...\n").strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
