"""The documentation, run as it is printed: examples against a real `pixie demo`, names against the code.

Examples run page by page, in their order and in one folder, so that a later one may use the files of an earlier one.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pixie_proxy.cli import pixie
from pixie_proxy.config import load_settings
from pixie_proxy.errors import ProxyError
from pixie_proxy.web.routes import ROUTES
from tests.conftest import require
from tests.support.npm import node_modules
from tests.support.sockets import free_port

# One worker runs this module, so that there is one demo.
pytestmark = pytest.mark.xdist_group("docs")

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"

WRITTEN_BY_PROGRAMS = {"benchmarks.md", "configuration.md"}
"""Their programs have tests of their own; here only their links count."""

RUN_ELSEWHERE = {"moving.md": "tests/test_moving_house.py"}
"""Pages whose examples another test runs, for they need more than a demo."""

EXCERPTS = {
    "nginx": ("nginx.conf", "nginx-two.conf"),
    "caddyfile": ("Caddyfile",),
    "haproxy": ("haproxy.cfg",),
    "ini": ("pixie.service",),
}
"""Printed parts of files under docs/operations/, by language."""

RUN = {"python", "bash", "js", "yaml", "json", *EXCERPTS}
NOT_RUN = {
    "console": "needs docker or root, or is make: only the targets of make are looked up",
    "text": "output and drawings",
}

PRINTED_URL = "http://127.0.0.1:8080"
"""The address in the examples. A test has a port of its own: nothing else of an example is changed."""

NODE_SDK, NODE, NODE_MAJOR = "openai@7", "node@22", 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A running `pixie demo`, started in `home` with its default data directory. `printed` is what it said."""

    url: str
    key: str
    home: Path
    printed: str

    @property
    def environment(self) -> dict[str, str]:
        """What a reader has exported."""
        return {"OPENAI_BASE_URL": f"{self.url}/v1", "OPENAI_API_KEY": self.key}

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call the proxy and return its JSON, an error's too."""
        request = urllib.request.Request(  # noqa: S310 - an http address of our own
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - as above
                return json.load(answer)
        except urllib.error.HTTPError as exc:
            with exc:
                return json.load(exc)


def _pages() -> list[Path]:
    return [README, ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]


def _written_pages() -> list[Path]:
    return [page for page in _pages() if page.name not in WRITTEN_BY_PROGRAMS]


def _blocks(*languages: str) -> list[Block]:
    return [
        Block(
            page=page,
            line=text[: match.start()].count("\n") + 1,
            language=match["language"],
            text=match["text"],
        )
        for page in _written_pages()
        for text in [page.read_text()]
        for match in re.finditer(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if not languages or match["language"] in languages
    ]


def _block(language: str, page: Path) -> Block:
    """The first block of a language on a page."""
    return next(block for block in _blocks(language) if block.page == page)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    home = tmp_path_factory.mktemp("demo")
    port = free_port()
    command = [sys.executable, "-m", "pixie_proxy", "demo", "--pace", "0", "--port", str(port)]
    with _running(command, home, "Ctrl-C stops it.") as printed:
        key = (home / "pixie-demo" / "admin.key").read_text().strip()
        yield Demo(url=f"http://127.0.0.1:{port}", key=key, home=home, printed=printed)


@contextmanager
def _running(command: list[str], folder: Path, said: str) -> Iterator[str]:
    """Run a program until it has `said` something on stdout, and end it afterwards."""
    out, err = folder / "stdout", folder / "stderr"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=folder, stdout=stdout, stderr=stderr, env=_environment({}))
    try:
        deadline = time.monotonic() + 30
        while said not in (printed := out.read_text()):
            assert process.poll() is None, err.read_text()
            assert time.monotonic() < deadline, err.read_text()
            time.sleep(0.02)
        yield printed
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """Our environment without settings of pixie's and keys of OpenAI's, which are the tester's own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIXIE_", "OPENAI_"))}
    return {**clean, **more}


def _run(block: Block, command: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=_environment(environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{block} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _shell(script: str) -> list[str]:
    return ["bash", "-euo", "pipefail", "-c", script]


def test_every_block_is_run_or_not_for_a_reason() -> None:
    """A block in a language that nobody knows would be one that nobody runs."""
    assert [
        f"{block} {block.language}" for block in _blocks() if block.language not in RUN | set(NOT_RUN)
    ] == []


def test_the_demo_says_what_the_readme_shows(demo: Demo) -> None:
    """The README's output is the real one, but for the port and the key."""
    shown = _block("text", README).text
    assert demo.printed.replace(demo.url, PRINTED_URL).replace(demo.key, "px-…").strip() == shown.strip()


def test_the_readme_exports_address_and_key(demo: Demo) -> None:
    """What a reader pastes first points at the demo."""
    block = _block("bash", README)
    script = block.text.replace(PRINTED_URL, demo.url) + 'echo "$OPENAI_BASE_URL $OPENAI_API_KEY"'
    said = _run(block, _shell(script), demo.home, {})
    assert said.split() == list(demo.environment.values())


@pytest.mark.system
@pytest.mark.parametrize(
    "page",
    sorted({block.page for block in _blocks("python", "bash") if block.page.name not in RUN_ELSEWHERE}),
    ids=lambda page: page.name,
)
def test_the_examples_of_a_page_run(page: Path, demo: Demo, tmp_path: Path) -> None:
    """Each example ends well as it is printed, and what it leaves are real pictures and real JSON."""
    (tmp_path / "pixie-demo").symlink_to(demo.home / "pixie-demo")
    # curl takes an error's answer for a success unless it is told otherwise.
    (tmp_path / ".curlrc").write_text("fail-with-body\nno-progress-meter\n")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where `pixie` is
    environment = {**demo.environment, "CURL_HOME": str(tmp_path), "PATH": path}
    commands: dict[str, Callable[[str], list[str]]] = {
        "bash": _shell,
        "python": lambda script: [sys.executable, "-c", script],
    }
    for block in _blocks(*commands):
        if block.page == page:
            script = block.text.replace(PRINTED_URL, demo.url)
            _run(block, commands[block.language](script), tmp_path, environment)
    for picture in tmp_path.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG"), picture.name
    for answer in tmp_path.glob("*.json"):
        assert json.loads(answer.read_text()), answer.name


def test_the_node_examples_run(demo: Demo, tmp_path: Path) -> None:
    """The official Node SDK, as the README shows it."""
    require("node")
    modules, node = _node_modules()
    (tmp_path / "node_modules").symlink_to(modules)
    for block in _blocks("js"):
        (tmp_path / "example.mjs").write_text(block.text)
        _run(block, [node, "example.mjs"], tmp_path, demo.environment)
    assert [picture.read_bytes()[:4] for picture in tmp_path.glob("*.png")] == [b"\x89PNG"]


def _node_modules() -> tuple[Path, str]:
    """Give the SDK's folder, and the program to run it: a newer Node where the system's is too old for it."""
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    is_old = int(version.removeprefix("v").split(".")[0]) < NODE_MAJOR
    modules = node_modules(NODE_SDK, NODE) if is_old else node_modules(NODE_SDK)
    return modules, str(modules / ".bin" / "node") if is_old else "node"


@pytest.mark.parametrize("block", _blocks(*EXCERPTS), ids=str)
def test_excerpts_are_those_of_the_files(block: Block) -> None:
    """What is printed of a file under docs/operations/ stands in it, line for line; tests/deploy/ runs the files."""
    lines = [line.strip() for line in block.text.splitlines()]
    for name in EXCERPTS[block.language]:
        shipped = (DOCS / "operations" / name).read_text().splitlines()
        stripped = [line.strip() for line in shipped]
        if any(stripped[at : at + len(lines)] == lines for at in range(len(stripped))):
            return
    pytest.fail(f"{block} is not of {EXCERPTS[block.language]}")


@pytest.mark.parametrize("block", _blocks("yaml"), ids=str)
def test_yaml_loads_as_settings(block: Block, tmp_path: Path) -> None:
    """A block of settings can be pasted into config.yaml; what it takes from the environment is given."""
    config = tmp_path / "config.yaml"
    config.write_text(block.text)
    names = re.findall(r"\$\{(\w+)\}", block.text)
    load_settings(config, environ={name: f"the value of {name}" for name in names})


def test_the_answers_in_the_docs_have_the_real_fields(demo: Demo) -> None:
    """Each JSON block has the keys of a real answer, in the same order."""
    made = demo.ask(
        "/v1/images/generations", {"prompt": "a fox", "response_format": "url", "size": "1024x1024"}
    )
    listed = demo.ask("/v1/images?limit=1")
    real: dict[str, dict[str, Any]] = {
        "image": listed["data"][0],
        "list": listed,
        "model": demo.ask("/v1/models/gpt-image-2"),
        "estimate": demo.ask("/v1/images/estimate", {"prompt": "a fox"}),
        "user": demo.ask("/v1/me"),
        "request": demo.ask(f"/v1/requests/{listed['data'][0]['request_id']}"),
        "usage": demo.ask("/v1/usage?by=model"),
        "balance": demo.ask("/v1/credits/balance"),
        "admin user": demo.ask("/v1/admin/users")["data"][0],
        "key": demo.ask("/v1/admin/keys")["data"][0],
        "act": demo.ask("/v1/admin/acts")["data"][0],
        "share": demo.ask(f"/v1/images/{listed['data'][0]['id']}/shares", {}),
        "image.bulk": demo.ask(
            "/v1/images/bulk",
            {"ids": [listed["first_id"]], "action": "visibility", "visibility": "team"},
        ),
        "collection": demo.ask("/v1/collections", {"name": "Foxes"}),
        "answer": made,
        "error": demo.ask("/v1/images/generations", {"prompt": "a fox", "n": 11}),
    }
    blocks = _blocks("json")
    assert blocks
    for block in blocks:
        shown = json.loads(block.text)
        kind = shown.get("object", "error" if "error" in shown else "answer")
        if "own_limits" in shown:
            kind = f"admin {kind}"
        assert list(shown) == list(real[kind]), block
        if kind == "error":
            assert shown == real[kind], block
    image = json.loads(next(block.text for block in blocks if '"object": "image"' in block.text))
    assert list(image) == list(demo.ask(f"/v1/images/{listed['first_id']}"))


def test_every_field_of_a_manifest_is_described(demo: Demo) -> None:
    """docs/storage.md names what a real request.json says."""
    found = next((demo.home / "pixie-demo" / "storage" / "images").rglob("request.json"))
    manifest = json.loads(found.read_text())
    rows = re.findall(r"^\| (`.+)$", (DOCS / "storage.md").read_text(), re.MULTILINE)
    described = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert {*manifest, *manifest["images"][0]} - described == set()


def test_every_route_is_described_and_no_other() -> None:
    """docs/api.md has a heading and a row for each address that exists."""
    page = (DOCS / "api.md").read_text()
    addresses = [f"{route.method} {route.path}" for route in ROUTES]
    assert sorted(re.findall(r"^### `([A-Z]+ /[^`]*)`$", page, re.MULTILINE)) == sorted(addresses)
    assert sorted(re.findall(r"^\| \[`([A-Z]+ /[^`]*)`\]", page, re.MULTILINE)) == sorted(addresses)


def test_every_error_is_described() -> None:
    """docs/api.md has a row for each error that the code can raise, and calls the others reserved."""
    page = (DOCS / "api.md").read_text()
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \| `(\w+)` \|", page, re.MULTILINE)
    reserved = re.search(r"^Reserved, .*?\n\n", page, re.MULTILINE | re.DOTALL)
    source = "\n".join(
        path.read_text()
        for path in (ROOT / "pixie_proxy").rglob("*.py")
        if path != ROOT / "pixie_proxy" / "errors.py"
    )
    errors: list[type[ProxyError]] = [error for error in _below(ProxyError) if "code" in vars(error)]
    used: list[type[ProxyError]] = [error for error in errors if re.search(rf"\b{error.__name__}\b", source)]
    raised: list[type[ProxyError]] = [ProxyError, *used]
    assert sorted((int(status), code, kind) for status, code, kind in rows) == sorted(
        (error.status, error.code, error.type) for error in raised
    )
    assert sorted(re.findall(r"`(\w+)` \((\d{3})\)", reserved[0] if reserved else "")) == sorted(
        (error.code, str(error.status)) for error in errors if error not in used
    )


def _below(error: type[ProxyError]) -> Iterator[type[ProxyError]]:
    for child in error.__subclasses__():
        yield child
        yield from _below(child)


def test_every_command_is_shown() -> None:
    """Each command of `pixie --help` stands on some page."""
    text = "\n".join(page.read_text() for page in _written_pages())
    commands = pixie.list_commands(pixie.make_context("pixie", [], resilient_parsing=True))
    assert [name for name in commands if f"pixie {name}" not in text] == []


def test_make_has_the_targets_that_are_shown() -> None:
    """`$ make …` in a block names what the Makefile knows."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = {
        name
        for block in _blocks("console")
        for name in re.findall(r"^\$ make ([\w-]+)", block.text, re.MULTILINE)
    }
    assert shown
    assert shown - set(targets) == set()


def test_start_up_errors_are_quoted_as_they_are() -> None:
    """docs/operations.md quotes what the code can say, and has every ConfigError; … stands for what varies."""
    quotes = _first_cells("| `pixie: …`")
    texts = {_template(node) for _, node in _strings()}
    assert [quote for quote in quotes if not any(quote in text for text in texts)] == []
    raised = {
        _template(node.args[0])
        for _, node in _nodes()
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "ConfigError"
        and node.args
        and isinstance(node.args[0], ast.Constant | ast.JoinedStr)
    }
    whole = [text for text in raised if not text.startswith("…")]
    assert whole
    assert [text for text in whole if not any(quote in text for quote in quotes)] == []


def test_log_messages_are_quoted_as_they_are() -> None:
    """docs/operations.md has each warning, error and critical line of the log, under its level."""
    table = (DOCS / "operations.md").read_text()
    documented = {
        (level, message.rstrip("…"))
        for level, messages in re.findall(r"^\| (critical|error|warning) \| (`.*?) \|", table, re.MULTILINE)
        for message in re.findall(r"`([^`]+)`", messages)
    }
    said = {
        ("error" if node.func.attr == "exception" else node.func.attr, _template(node.args[0]))
        for _, node in _nodes()
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "log"
        and node.func.attr in {"critical", "error", "exception", "warning"}
    }
    unknown = [
        each
        for each in documented
        if not any(each[0] == level and text.startswith(each[1]) for level, text in said)
    ]
    assert unknown == []
    missing = [
        each
        for each in said
        if not any(each[0] == level and each[1].startswith(text) for level, text in documented)
    ]
    assert missing == []


def _first_cells(head: str) -> list[str]:
    """The quotes in the first column of the table of docs/operations.md that begins with `head`."""
    table = (DOCS / "operations.md").read_text().partition(head)[2].partition("\n\n")[0]
    return re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)


def _nodes() -> Iterator[tuple[Path, ast.AST]]:
    for path in sorted((ROOT / "pixie_proxy").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            yield path, node


def _strings() -> Iterator[tuple[Path, ast.expr]]:
    for path, node in _nodes():
        if isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str)
        ):
            yield path, node


def _template(node: ast.expr) -> str:
    """A text of the source, with … for what is put in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "…"


def test_cited_tests_exist() -> None:
    """Where a page says which test shows something, that test is there."""
    cited = {
        (page.name, file, name)
        for page in _written_pages()
        for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text())
    }
    assert cited
    missing = [
        cite
        for cite in sorted(cited)
        if not (ROOT / cite[1]).is_file() or f"def {cite[2]}(" not in (ROOT / cite[1]).read_text() + "def ("
    ]
    assert missing == []


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Each link to a file finds it, and each link to a heading finds that."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for target, anchor in re.findall(r'(?:\]\(|src=")(?!https?:)([^)#"]*)(?:#([^)"]*))?', text):
        file = page.parent / target if target else page
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(f"{target}#{anchor}" if anchor else target)
    assert broken == []


def _anchors(page: Path) -> set[str]:
    """The headings' names, made as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
