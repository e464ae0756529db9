"""Settings: where they come from, what they refuse, and that they keep secrets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from pixie_proxy.cli import settings_text
from pixie_proxy.config import DeclaredUser, Price, Settings, load_settings
from pixie_proxy.errors import ConfigError

ROOT = Path(__file__).parent.parent
SECRET = "sk-never-show-this-0123456789"
KEY, DIGEST = "abcdefgh", hashlib.sha256(b"abcdefgh").hexdigest()
URL_RULE = "must be a URL such as https://images.example.org, without a query"
NETWORK_RULE = "must be an address such as 127.0.0.1 or a network such as 10.0.0.0/8"
PREFIX_RULE = "must be folders such as team/images: letters, digits, - _ . and single slashes"

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load settings from a text, an environment and flags."""

    def loads(text: str = "", /, flags: dict[str, object] | None = None, **environ: str) -> Settings:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return load_settings(path, environ=environ, flags=flags)

    return loads


def problems(load: Load, text: str = "", **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(text, **environ)
    return list(raised.value.problems)


def test_later_layers_win(load: Load) -> None:
    """Defaults, file, environment, flags."""
    text = "server: {host: file, port: 1, drain_s: 11}"
    environ = {"PIXIE_SERVER__HOST": "env", "PIXIE_SERVER__PORT": "2"}
    server = load(text, flags={"server.host": "flag", "server.port": None}, **environ).server
    assert (server.host, server.port, server.drain_s, server.public_url) == ("flag", 2, 11, None)


def test_without_anything_the_defaults_hold() -> None:
    """No file and no environment are needed, not even a key."""
    settings = load_settings(environ={}, looks_here=False)
    assert settings.upstream.api_key is None
    assert settings.model_dump(exclude={"upstream"}) == Settings().model_dump(exclude={"upstream"})


def test_the_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was named, else PIXIE_CONFIG's, else ./config.yaml where it may be looked for."""
    monkeypatch.chdir(tmp_path)
    for port, name in enumerate(("config.yaml", "environ.yaml", "named.yaml"), 1):
        (tmp_path / name).write_text(f"server: {{port: {port}}}")
    environ = {"PIXIE_CONFIG": "environ.yaml"}
    assert load_settings(environ={}).server.port == 1
    assert load_settings(environ=environ).server.port == 2
    assert load_settings(tmp_path / "named.yaml", environ=environ).server.port == 3
    assert load_settings(environ={}, looks_here=False).server.port == 8080


def test_a_reference_is_the_environments_value(load: Load) -> None:
    """Anywhere in a value, in the file and in the environment; a doubled dollar is one."""
    text = """
    server: {host: "$$${HOST}$", public_url: "https://${HOST}/${HOST}"}
    models: {aliases: {a: "${M}"}, allow: ["${M}", "b"]}
    upstream: {api_key: "${K}"}
    """
    settings = load(text, HOST="h", M="m", K="$$x", PIXIE_UPSTREAM__PROJECT="p-${M}")
    assert (settings.server.host, settings.server.public_url) == ("$h$", "https://h/h")
    assert (settings.models.aliases, settings.models.allow) == ({"a": "m"}, ["m", "b"])
    assert settings.upstream.api_key is not None
    assert (settings.upstream.api_key.get_secret_value(), settings.upstream.project) == ("$$x", "p-m")


def test_a_missing_variable_is_named(load: Load) -> None:
    """With the place that wants it."""
    text = "upstream: {api_key: '${NOPE}'}\nusers: [{name: a, key: '${NEITHER}'}]"
    found = problems(load, text)
    assert "upstream.api_key: the environment variable NOPE is not set" in found
    assert "users[0].key: the environment variable NEITHER is not set" in found


def test_the_key_comes_from_openais_own_variable(load: Load) -> None:
    """Unless the settings say otherwise; an empty one is none."""
    keys = [
        load(text, OPENAI_API_KEY=value).upstream.api_key
        for text, value in [("", "sk-a"), ("upstream: {api_key: sk-b}", "sk-a"), ("", "")]
    ]
    assert [key and key.get_secret_value() for key in keys] == ["sk-a", "sk-b", None]


def test_a_secret_may_come_in_a_file(load: Load, tmp_path: Path) -> None:
    """As systemd and Docker hand them over. A variable of the same name wins, and no file is a setting by itself."""
    files = {
        "OPENAI_API_KEY": "sk-file\n",
        "ANN": "ann-in-a-file",
        "BEN": "not this",
        "PIXIE_SERVER__PORT": "1",
    }
    for name, text in files.items():
        (tmp_path / "secrets").mkdir(exist_ok=True)
        (tmp_path / "secrets" / name).write_text(text)
    text = "users: [{name: ann, key: '${ANN}'}, {name: ben, key: '${BEN}'}]"
    settings = load(text, CREDENTIALS_DIRECTORY=str(tmp_path / "secrets"), BEN="ben-in-a-variable")
    keys = [settings.upstream.api_key, *[user.key for user in settings.users]]
    assert [key and key.get_secret_value() for key in keys] == [
        "sk-file",
        "ann-in-a-file",
        "ben-in-a-variable",
    ]
    assert settings.server.port == 8080


def test_secrets_that_can_not_be_read_stop_the_start(load: Load, tmp_path: Path) -> None:
    """They are not what the operator meant to start without."""
    assert problems(load, CREDENTIALS_DIRECTORY="/nowhere") == [
        "CREDENTIALS_DIRECTORY: /nowhere can't be read (FileNotFoundError)"
    ]
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "KEY").write_bytes(b"\xff")
    (told,) = problems(load, CREDENTIALS_DIRECTORY=str(tmp_path / "secrets"))
    assert told.endswith("can't be read (UnicodeDecodeError)")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("limits: {usd_per_mont: 1}", "limits.usd_per_mont: unknown setting (did you mean usd_per_month?)"),
        ("sever: {port: 1}", "sever: unknown setting (did you mean server?)"),
        ("storage: {s3: {buket: x}}", "storage.s3.buket: unknown setting (did you mean bucket?)"),
        ("users: [{name: a, kee: abcdefgh}]", "users[0].kee: unknown setting (did you mean key?)"),
        ("server: {qqqqq: 1}", "server.qqqqq: unknown setting"),
        ("server: {port: 70000}", "server.port: input should be less than or equal to 65535"),
        ("server: {port: [1]}", "server.port: input should be a valid integer"),
        ("server: {drain_s: .inf}", "server.drain_s: input should be a finite number"),
        ("server: 5", "server: input should be a valid dictionary or instance of ServerSettings"),
        ("storage: {kind: ftp}", "storage.kind: input should be 'local' or 's3'"),
        ("storage: {kind: s3}", "storage: kind s3 needs s3.bucket"),
        (
            "storage: {s3: {bucket: pictures, access_key_id: a}}",
            "storage.s3: give both access_key_id and secret_access_key, or neither",
        ),
        *[
            (f"storage: {{s3: {{prefix: {prefix}}}}}", f"storage.s3.prefix: {PREFIX_RULE}")
            for prefix in ("a//b", "../b", "'a b'", "a/./b")
        ],
        ("upstream: {base_url: api.openai.com}", f"upstream.base_url: {URL_RULE}"),
        ("upstream: {base_url: 'https://x/v1?a=b'}", f"upstream.base_url: {URL_RULE}"),
        *[
            (f"server: {{trusted_proxies: [127.0.0.1, {entry}]}}", f"server.trusted_proxies[1]: {NETWORK_RULE}")
            for entry in ("10.0.0.1/8", "localhost", "''", "10.0.0.0/33", "'::1 '", "'*'")
        ],
        ("limits: {usd_per_day: -1}", "limits.usd_per_day: input should be greater than or equal to 0"),
        ("team: {usd_total: 1e9}", "team.usd_total: input should be less than 1000000000"),
        ("team: {images_per_day: 0}", "team.images_per_day: input should be greater than 0"),
        ("limits: {usd_per_day: .nan}", "limits.usd_per_day: input should be a finite number"),
        ("users: [{name: a}]", "users[0]: give either key or key_sha256"),
        (f"users: [{{name: a, key: {KEY}, key_sha256: {DIGEST}}}]", "users[0]: give either key or key_sha256"),
        (
            f"users: [{{name: a, key_sha256: {hashlib.sha256().hexdigest()}}}]",
            "users[0]: that is the SHA-256 of an empty text, not of a key",
        ),
        ("users: [{name: a, key: ''}]", "users[0].key: value should have at least 8 items after validation, not 0"),
        (f"users: [{{name: a, key: {KEY}}}, {{name: a, key: other678}}]", "users: declared twice: a"),
        (f"users: [{{name: a, key: {KEY}}}, {{name: b, key_sha256: {DIGEST}}}]", "users: have the same key: a, b"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(load: Load, text: str, problem: str) -> None:
    """One line, and a guess at what was meant."""
    assert problems(load, text) == [problem]


def test_all_mistakes_are_told_at_once(load: Load) -> None:
    """From every layer: nobody likes to start seven times."""
    text = "server: {port: -1, hots: x}\nlimits: {usd_per_day: much}\nupstream: {project: '${NOPE}'}"
    environ = {"PIXIE_SERVER__DRAIN_S": "0", "PIXIE_SEVER__PORT": "1", "PIXIE_MODELS__ALLOW": "a,b"}
    found = problems(load, text, **environ)
    places = {line.partition(":")[0] for line in found}
    assert len(found) == 7
    assert places == {
        "server.port", "server.hots", "limits.usd_per_day", "upstream.project", "server.drain_s",
        "PIXIE_SEVER__PORT", "PIXIE_MODELS__ALLOW",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server: {port: 1", "not valid YAML at line"),
        ("server:\n\tport: 1", "not valid YAML at line 2"),
        ("\x01", "not valid YAML"),
        ("- server", "must hold sections such as `server:`, not a list"),
        ("server", "must hold sections such as `server:`, not a str"),
        ("!!python/object/apply:os.system [true]", "not valid YAML"),
    ],
)
def test_a_broken_file_is_told_by_name(load: Load, text: str, words: str) -> None:
    """And nothing in it is run."""
    (problem,) = problems(load, text)
    assert problem.split(": ", 1)[0].endswith("config.yaml")
    assert words in problem


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    """A folder is no file either."""
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(ConfigError, match="can't be read"):
            load_settings(path, environ={})


def test_an_empty_file_or_section_says_nothing(load: Load) -> None:
    """A section whose lines are all comments keeps its defaults."""
    assert load("") == load("# nothing") == load("server:\n  # port: 1\nusers:\n")


def test_names_without_two_underscores_are_not_ours(load: Load) -> None:
    """Kubernetes sets PIXIE_PORT for a service of that name; ours are left alone too."""
    environ = {"PIXIE_PORT": "tcp://10.0.0.1:80", "PIXIE_SERVICE_HOST": "x", "PIXIE_URL": "y", "X__Y": "z"}
    assert load(**environ) == load()


@pytest.mark.parametrize(
    "name", ["PIXIE_SEVER__PORT", "PIXIE_SERVER__PROT", "PIXIE_SERVER__PORT__X", "PIXIE___"]
)
def test_an_unknown_name_with_two_underscores_stops(load: Load, name: str) -> None:
    """A setting that was meant to hold must not be lost for a letter."""
    (problem,) = problems(load, **{name: "1"})
    assert problem.startswith(f"{name}: unknown setting")


def test_the_environment_can_say_everything(load: Load) -> None:
    """Numbers and flags as text, lists and maps as JSON, nothing as null."""
    settings = load(
        "storage: {s3: {region: eu}}\nlimits: {usd_per_day: 1}\nserver: {public_url: 'http://x'}",
        PIXIE_SERVER__REQUIRE_EXISTING="true",
        PIXIE_MODELS__ALLOW='["a", "b"]',
        PIXIE_MODELS__PRICES='{"m": {"usd_per_image": 0.04}}',
        PIXIE_STORAGE__S3__BUCKET="pictures",
        PIXIE_LIMITS__USD_PER_DAY="null",
        PIXIE_SERVER__PUBLIC_URL="null",
        PIXIE_GALLERY__THUMBNAIL_PX="[64]",
    )
    assert settings.server.require_existing
    assert (settings.models.allow, settings.gallery.thumbnail_px) == (["a", "b"], [64])
    assert settings.models.prices == {"m": [Price(usd_per_image=0.04)]}
    assert (settings.storage.s3.bucket, settings.storage.s3.region) == ("pictures", "eu")
    assert (settings.limits.usd_per_day, settings.server.public_url) == (None, None)


def test_an_empty_variable_says_nothing(load: Load) -> None:
    """Compose hands on an empty one for each that nobody has set: that must neither stop a start nor lift a limit."""
    empty = {
        "PIXIE_SERVER__PORT": "",
        "PIXIE_MODELS__ALLOW": "",
        "PIXIE_LIMITS__USD_PER_DAY": "",
        "PIXIE_LOG_LEVEL": "",
        "PIXIE_CONFIG": "",
    }
    settings = load("limits: {usd_per_day: 5}\nmodels: {allow: [a]}", **empty)
    assert (settings.server.port, settings.models.allow, settings.limits.usd_per_day) == (8080, ["a"], 5)


@pytest.mark.parametrize(
    ("price", "is_good"),
    [
        ("{usd_per_image: 0.04}", True),
        ("{usd_per_image: 0}", True),
        ("{text_in: 5, image_in: 8, image_out: 30}", True),
        ("{}", False),
        ("{text_in: 5}", False),
        ("{text_in: 5, image_out: 30}", False),
        ("{usd_per_image: 1, text_in: 5}", False),
        ("{usd_per_image: 1, text_in: 5, image_in: 8, image_out: 30}", False),
        ("{usd_per_image: -1}", False),
        ("{usd_per_image: .inf}", False),
        ("{usd_per_image: .nan}", False),
        ("{usd_per_image: 1000001}", False),
        ("{usd_per_image: 1, usd: 1}", False),
        ("{text_in: 5, image_in: 8, image_out: 30, text_out: 9, cached_text_in: 1, ceiling_usd: 0.7}", True),
        ("{text_in: 5, text_out: 30, ceiling_usd: 1}", True),
        ("{text_in: 5, text_out: 30}", False),
        ("{ceiling_usd: 1}", False),
        ("[{usd_per_image: 1}, {usd_per_image: 2, since: 2027-01-01}]", True),
        ("[{usd_per_image: 1}, {usd_per_image: 2}]", False),
        ("[{usd_per_image: 1, since: 2027-01-01}, {usd_per_image: 2, since: 2027-01-01}]", False),
        ("[{usd_per_image: 1, since: soon}]", False),
        ("[]", False),
    ],
)
def test_a_price_is_flat_or_by_token(load: Load, price: str, is_good: bool) -> None:
    """Half a price would make half a bill."""
    text = f"models: {{prices: {{m: {price}}}}}"
    if is_good:
        assert list(load(text).models.prices) == ["m"]
    else:
        assert problems(load, text)[0].startswith("models.prices.m")


@pytest.mark.parametrize(
    "text",
    [
        f"upstream: {{api_key: [{SECRET}]}}",
        f"upstream: {{api_key: {{a: {SECRET}}}}}",
        f"users: [{{name: a, key: {SECRET}, role: {SECRET}, key_sha256: {SECRET}}}]",
        f"users: [{{name: a, key: {SECRET}}}, {{name: a, key: {SECRET}}}]",
        f"users: {SECRET}",
        f"storage: {{s3: {{secret_access_key: [{SECRET}], endpoint_url: {SECRET}}}}}",
        f"index: {{url: [{SECRET}]}}",
        f"upstream: {{base_url: 'http://a:{SECRET}@:x'}}",
        f"server: {{port: {SECRET}}}",
        f"upstream: {{api_key: '{SECRET}",
        f"{SECRET}",
    ],
)
def test_an_error_never_shows_a_value(load: Load, text: str) -> None:
    """It may be a secret in the wrong place."""
    assert SECRET not in "\n".join(problems(load, text))


def test_secrets_do_not_show_in_a_repr(load: Load) -> None:
    """Whoever logs the settings logs no key."""
    settings = load(
        f"upstream: {{api_key: {SECRET}}}\nindex: {{url: 'postgresql://a:{SECRET}@h/d'}}\n"
        f"users: [{{name: a, key: {SECRET}}}]\nstorage: {{s3: {{access_key_id: a, secret_access_key: {SECRET}}}}}"
    )
    shown = [repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()]
    assert not [text for text in shown if SECRET in text]
    assert settings.users[0].key is not None


@pytest.mark.parametrize(
    ("server", "base"),
    [
        ("{host: 10.0.0.7, port: 0}", "http://10.0.0.7:80"),
        ("{host: '::1'}", "http://[::1]:80"),
        ("{public_url: 'https://images.example.org/pixie/'}", "https://images.example.org/pixie"),
    ],
)
def test_links_start_with_the_public_address(load: Load, server: str, base: str) -> None:
    """Or with what we really listen on, where the settings leave the port open."""
    assert load(f"server: {server}").link_base(80) == base


def test_storage_lies_in_the_data_directory(load: Load) -> None:
    """Unless it has a place of its own."""
    assert load("server: {data_dir: /d}").storage_path == Path("/d/storage")
    assert load("storage: {path: /s}").storage_path == Path("/s")


def test_the_example_says_what_the_defaults_say() -> None:
    """Every setting is in it, each with its default and what it means."""
    environ = {"OPENAI_API_KEY": "sk-x"}
    example = ROOT / "config.example.yaml"
    assert load_settings(example, environ=environ) == load_settings(environ=environ, looks_here=False)
    tree = yaml.safe_load(example.read_text())
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            assert list(tree[name]) == list(section.model_fields), name


@pytest.mark.parametrize(
    ("path", "command"), [("config.example.yaml", "example"), ("docs/configuration.md", "docs")]
)
def test_the_generated_texts_are_up_to_date(path: str, command: str) -> None:
    """When this fails: `pixie config example > config.example.yaml`, `pixie config docs > docs/configuration.md`."""
    assert (ROOT / path).read_text() == getattr(settings_text, command)()


def test_the_docs_have_every_setting() -> None:
    """Also those of a declared user and of a price; each has a description."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.+) \|$", settings_text.docs(), re.MULTILINE)
    names = {name for name, _ in rows}
    models: list[type[BaseModel]] = [DeclaredUser, Price, *_sections(Settings)]
    for model in models:
        assert {name for name, field in model.model_fields.items() if field.description} <= names | {"s3"}
    assert "None" not in {meaning for _, meaning in rows}


def _sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = []
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += [field.annotation, *_sections(field.annotation)]
    return found
