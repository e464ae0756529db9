"""Read the settings: defaults, a YAML file, `PIXIE_SECTION__KEY` environment variables, flags; later layers win."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import orjson
import yaml
from pydantic import BaseModel, SecretStr, ValidationError

from pixie_proxy.config.sections import DeclaredUser, Settings, UpstreamSettings
from pixie_proxy.errors import ConfigError

ENV_PREFIX = "PIXIE_"
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
_REFERENCE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def load_settings(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    looks_here: bool = True,
) -> Settings:
    """Read and check the settings; `flags` are `section.key` → value, None values are not given.

    `looks_here`: without a file that was named, ./config.yaml is read where there is one.
    Raises ConfigError with every problem at once, each led by its path.
    """
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    layers = _read_file(config_path(path, environ, looks_here=looks_here), problems)
    _overlay_environment(layers, environ, problems)
    for name, value in (flags or {}).items():
        if value is not None:
            _put(layers, name.split("."), value)
    known = _with_credentials(environ, problems)
    layers = _resolve(layers, "", known, problems)
    try:
        settings = Settings.model_validate(layers)
    except ValidationError as exc:
        raise ConfigError(*problems, *map(_describe, exc.errors())) from None
    if problems:
        raise ConfigError(*problems)
    return _with_default_key(settings, known)


def config_path(path: Path | None, environ: Mapping[str, str], *, looks_here: bool = True) -> Path | None:
    """Choose the file: the flag, else PIXIE_CONFIG, else ./config.yaml where there is one."""
    if path is not None:
        return path
    if named := environ.get("PIXIE_CONFIG"):
        return Path(named)
    here = Path("config.yaml")
    return here if looks_here and here.is_file() else None


def _read_file(path: Path | None, problems: list[str]) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        problems.append(f"{path}: can't be read ({type(exc).__name__})")
        return {}
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        problems.append(f"{path}: not valid YAML" + (f" at line {mark.line + 1}" if mark else ""))
        return {}
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        problems.append(f"{path}: must hold sections such as `server:`, not a {type(loaded).__name__}")
        return {}
    return {section: value for section, value in loaded.items() if value is not None}


def _overlay_environment(layers: dict[str, Any], environ: Mapping[str, str], problems: list[str]) -> None:
    """Put PIXIE_SECTION__KEY variables over the file. Names without `__` (Kubernetes' PIXIE_PORT) are not ours.

    An empty one says nothing: so Docker Compose and shells hand on a variable that nobody has set.
    """
    for name, text in sorted(environ.items()):
        if not name.startswith(ENV_PREFIX) or "__" not in name:
            continue
        path = name.removeprefix(ENV_PREFIX).lower().split("__")
        kind = _kind_of(path)
        if kind is None:
            problems.append(f"{name}: unknown setting{_suggest('.'.join(path))}")
        elif not text:
            continue
        elif kind == "json":
            try:
                _put(layers, path, orjson.loads(text))
            except orjson.JSONDecodeError:
                problems.append(f"{name}: must be JSON, such as [] or {{}}")
        else:
            _put(layers, path, None if text == "null" else text)


def _kind_of(path: list[str]) -> Literal["json", "text"] | None:
    """Tell how a setting is written in the environment; None where there is no such setting."""
    model: type[BaseModel] = Settings
    for at, name in enumerate(path):
        found = model.model_fields.get(name)
        if found is None:
            return None
        annotation = found.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
            continue
        if at + 1 < len(path):
            return None
        return "json" if getattr(annotation, "__origin__", None) in {list, dict} else "text"
    return "json"


def _put(layers: dict[str, Any], path: list[str], value: object) -> None:
    *sections, last = path
    for section in sections:
        inner = layers.get(section)
        layers[section] = inner = dict(inner) if isinstance(inner, dict) else {}
        layers = inner
    layers[last] = value


def _resolve(value: Any, path: str, environ: Mapping[str, str], problems: list[str]) -> Any:
    """Replace `${NAME}` by the environment's value and `$$` by `$`, everywhere in a value."""
    if isinstance(value, dict):
        return {key: _resolve(item, f"{path}.{key}", environ, problems) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, f"{path}[{at}]", environ, problems) for at, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        if match[1] not in environ:
            problems.append(f"{path.lstrip('.')}: the environment variable {match[1]} is not set")
        return environ.get(match[1], "")

    return _REFERENCE.sub(replace, value)


def _with_credentials(environ: Mapping[str, str], problems: list[str]) -> Mapping[str, str]:
    """Add what `${NAME}` may mean beside a variable: a file NAME of systemd's LoadCredential= or of Docker's secrets.

    A secret in a file need not stand in the environment, where every process of the same user can read it.
    """
    folder = environ.get(CREDENTIALS_VARIABLE)
    if not folder:
        return environ
    try:
        paths = [path for path in Path(folder).iterdir() if path.is_file()]
        return {**{path.name: path.read_text().removesuffix("\n") for path in paths}, **environ}
    except (OSError, UnicodeDecodeError) as exc:
        problems.append(f"{CREDENTIALS_VARIABLE}: {folder} can't be read ({type(exc).__name__})")
        return environ


def _with_default_key(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Fill the default `${OPENAI_API_KEY}`; an absent variable leaves no key, which only `serve` minds."""
    default = UpstreamSettings.model_fields["api_key"].default
    if settings.upstream.api_key != default:
        return settings
    found = environ.get("OPENAI_API_KEY")
    upstream = settings.upstream.model_copy(update={"api_key": SecretStr(found) if found else None})
    return settings.model_copy(update={"upstream": upstream})


def _describe(error: Any) -> str:
    """Turn one of pydantic's errors into a line that says where and what."""
    where = ""
    for step in error["loc"]:
        where += f"[{step}]" if isinstance(step, int) else f".{step}" if where else str(step)
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown setting{_suggest(where)}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]}"


def _suggest(where: str) -> str:
    """Guess the setting that was meant, by its last name."""
    name = re.sub(r"\[\d+\]", "", where).rsplit(".", 1)[-1]
    near = difflib.get_close_matches(name, _all_names(Settings), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _all_names(model: type[BaseModel]) -> list[str]:
    names: list[str] = []
    for name, found in model.model_fields.items():
        names.append(name)
        if isinstance(found.annotation, type) and issubclass(found.annotation, BaseModel):
            names.extend(_all_names(found.annotation))
    return [*names, *DeclaredUser.model_fields] if model is Settings else names
