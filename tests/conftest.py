"""What every test may ask for: a scripted upstream, and a real proxy in front of it."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from _pytest.nodeid import NodeId

from benchmarks import promises
from tests.support.figures import FigureBook, RecordFigure, record
from tests.support.postgres import PROGRAMS as POSTGRES_PROGRAMS
from tests.support.postgres import Server, running_postgres
from tests.support.proxy import RunningProxy, run_proxy
from tests.support.s3_servers import CEPH_PROGRAMS, SWIFT_PROGRAMS, S3Server, running_ceph, running_swift
from tests.support.upstream import ScriptedUpstream

log = logging.getLogger(__name__)

ProxyFactory = Callable[..., AbstractAsyncContextManager[RunningProxy]]

KeepIndex = Callable[[Path], object]
IN_SQLITE_AND_TORTURE_BOTH = ["sqlite", pytest.param("postgres", marks=pytest.mark.torture)]
"""For `keep_index`, where the suite has no time for both databases."""

_STATEMENTS = promises.ids_by_test(promises.load())

_SYSTEM_FOLDERS = {"crash", "deploy", "proof"}
_SYSTEM_GROUPS = {"browser", "ceph", "memory", "swift"}
"""Of xdist: tests of one group share a program that starts slowly, or want the machine to themselves."""


def pytest_configure(config: pytest.Config) -> None:
    """Make a marker of each statement that tests show, and collect figures where `make torture` asks for them."""
    for statement in sorted({each for found in _STATEMENTS.values() for each in found}):
        config.addinivalue_line("markers", f"{statement}: shows this statement of docs/guarantees.md")
    if str(config.option.markexpr).startswith("torture") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(FigureBook(), "figures")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark tests with the statements that they show and with their size, and let xdist's groups count.

    xdist writes a group to a field that pytest 9.2 does not read any more (its issue 1386).
    """
    for item in items:
        for statement in _STATEMENTS.get(_name(item), ()):
            item.add_marker(statement)
        if _is_of_system(item):
            item.add_marker("system")
    yield
    for item in items:
        if (named := vars(item).get("_nodeid")) is not None:
            item._id = NodeId.parse(named)


def _is_of_system(item: pytest.Item) -> bool:
    """Tell whether a test needs much of the world around: a browser, an S3 server, whole hosts."""
    groups = {mark.args[0] for mark in item.iter_markers("xdist_group")}
    return bool(groups & _SYSTEM_GROUPS) or item.path.parent.name in _SYSTEM_FOLDERS


def _name(item: pytest.Item) -> str:
    """Give a test as `file::name`: without its parameters and its group."""
    return item.nodeid.partition("[")[0].partition("@")[0]


@pytest.fixture
def record_figure(request: pytest.FixtureRequest) -> RecordFigure:
    """Record figures about a statement, for the page that `make torture` is for: `record_figure("R12", calls=1000)`."""

    def note(statement: str, **figures: float | str) -> None:
        test = _name(request.node)
        assert statement in _STATEMENTS.get(test, ()), f"benchmarks/guarantees.yaml: {statement} lacks {test}"
        record(request.node, statement, figures)

    return note


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """Serve a scripted upstream on a port of its own."""
    async with ScriptedUpstream() as server:
        yield server


@pytest.fixture
async def proxy(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[RunningProxy]:
    """Serve a proxy in this process, in front of the scripted upstream, with its data in `tmp_path`."""
    async with run_proxy(tmp_path / "data", upstream.base_url) as running:
        yield running


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Run Ceph's S3 gateway. Its tests are of one xdist group, so that one worker starts it, once."""
    for program in CEPH_PROGRAMS:
        require(program)
    with running_ceph(tmp_path_factory.mktemp("ceph")) as server:
        yield server


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Run Swift's S3 gateway, which knows no conditional PUT."""
    for program in SWIFT_PROGRAMS:
        require(program)
    with running_swift(tmp_path_factory.mktemp("swift")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """Run a PostgreSQL server, for as long as this worker lives: a test takes a database of its own there."""
    yield from _postgres()


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Server]:
    """Run a server that no other module uses: its tests may let it fail."""
    yield from _postgres()


def _postgres() -> Iterator[Server]:
    for program in POSTGRES_PROGRAMS:
        require(program)
    with running_postgres() as server:
        server.make_template()
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def keep_index(request: pytest.FixtureRequest) -> KeepIndex:
    """Choose where the index of a data directory is, before anything is run on it: the test runs with each database."""
    if request.param == "sqlite":
        return lambda _: None
    keep: KeepIndex = request.getfixturevalue("postgres").keep_index
    return keep


def require(program: str) -> str:
    """Find a program that a test needs; without it the test is skipped, or fails where PIXIE_TEST_REQUIRE=all."""
    found = shutil.which(program)
    if found is None:
        if os.environ.get("PIXIE_TEST_REQUIRE") == "all":
            pytest.fail(f"{program} is needed (PIXIE_TEST_REQUIRE=all)")
        pytest.skip(f"{program} is not installed")
    return found
