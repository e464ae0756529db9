"""docs/guarantees.md says what was measured, no more: it is made from raw figures, and failures stay visible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import guarantees, promises
from benchmarks.promises import Promise, Statement

pytest_plugins = ["pytester"]

PROMISES = [
    Promise(
        title="One",
        says="It holds.",
        missing="the rest.",
        statements=(
            Statement(id="R1", says="Kills lose nothing", tests=("tests/a.py::test_a", "tests/b.py::test_b")),
            Statement(id="R2", says="Power cuts neither", tests=("tests/c.py::test_c",), needs="root"),
            Statement(id="R3", says="A plan"),
            Statement(says="Always so", tests=("tests/d.py::test_d",)),
        ),
    )
]


def raw_of(**tests: dict[str, Any]) -> dict[str, Any]:
    machine = {
        "cores": 2,
        "cpu": "a cpu",
        "memory_gib": 8.0,
        "kernel": "Linux 6",
        "python": "3.11",
        "sqlite": "3.40",
        "filesystem": "ext4",
    }
    return {
        "date": "2026-11-21T10:00:00",
        "commit": "abc",
        "dirty": False,
        "machine": machine,
        "is_root": True,
        "tests": tests,
    }


def ended(*figures: dict[str, Any], outcome: str = "passed", reason: str = "") -> dict[str, Any]:
    return {
        "date": "2026-11-21",
        "seconds": 10.0,
        "outcome": outcome,
        "reason": reason,
        "figures": [*figures],
    }


def row_of(page: str, statement: str) -> str:
    return next(line for line in page.splitlines() if line.startswith(f"| {statement} |"))


def test_the_page_is_what_the_generator_makes() -> None:
    """Nobody has written in it by hand, and no newer figures lie beside it."""
    made = guarantees.render(promises.load(), guarantees.measured())
    assert guarantees.PATH.read_text() == made, "run: python -m benchmarks.guarantees"


def test_figures_of_several_tests_add_up() -> None:
    """Counts are summed, measures shown as their range, texts as a list; seeds are left to the raw figures."""
    one = {"statement": "R1", "seed": 1, "kills": 30, "recovery_s": 0.5, "fs": "ext4", "violations": 0}
    two = {"statement": "R1", "seed": 2, "kills": 20, "recovery_s": 1.25, "fs": "xfs", "violations": 0}
    raw = raw_of(**{"tests/a.py::test_a[1]": ended(one), "tests/a.py::test_a[2]": ended(two)})
    page = guarantees.render(PROMISES, raw)
    assert "| 50 kills, recovery 0.50–1.25 s, fs ext4, xfs, **0 violations** (20 s) |" in row_of(page, "R1")
    assert "`make torture ONLY=R1`<br>`tests/a.py::test_a`, `tests/b.py::test_b`" in row_of(page, "R1")
    assert "**1 of 3 statements, 0 violations, 0 failed tests**" in page


def test_runs_are_put_together() -> None:
    """Of each test its newest run counts, whatever its parameters were; a row says where that was an earlier commit."""
    old = {**ended({"statement": "R1", "kills": 7}), "date": "2026-11-20"}
    earlier = raw_of(
        **{
            "tests/a.py::test_a": old,
            "tests/c.py::test_c": ended({"statement": "R2", "cuts": 4}),
            "tests/gone.py::test_gone": ended({"statement": "R2", "cuts": 1}),
        }
    )
    earlier |= {"commit": "older", "date": "2026-11-20T10:00:00"}
    newest = raw_of(**{"tests/a.py::test_a[1]": ended({"statement": "R1", "kills": 2})})
    page = guarantees.render(PROMISES, guarantees.combined([newest, earlier]))
    assert "| 2 kills (10 s) |" in row_of(page, "R1")
    assert "| 4 cuts (10 s, at `older`) |" in row_of(page, "R2")
    assert "torture-abc.json`, `benchmarks/results/torture-older.json`" in page
    assert "at commit `abc`: **2 of 3 statements" in page


def test_failures_stay_visible() -> None:
    """Violations and failed tests are counted, in the row and on top."""
    bad = ended({"statement": "R1", "kills": 1, "violations": 3}, outcome="failed", reason="3 violations")
    page = guarantees.render(PROMISES, raw_of(**{"tests/a.py::test_a": bad}))
    assert "**3 violations**, **1 tests failed**" in row_of(page, "R1")
    assert "3 violations, 1 failed tests" in page


def test_what_was_not_measured_is_said() -> None:
    """With the reason where there is one; a statement without any test shows no command."""
    raw = raw_of(**{"tests/c.py::test_c[xfs]": ended(outcome="skipped", reason="no loop mounts")})
    page = guarantees.render(PROMISES, raw)
    assert "(needs root) | **skipped**: no loop mounts |" in row_of(page, "R2")
    assert row_of(page, "R3") == "| R3 | A plan | not measured yet | – |"
    assert "| Always so | `tests/d.py::test_d` |" in page
    assert "Missing: the rest." in page
    assert "no raw figures yet" in guarantees.render(PROMISES, None)


def test_a_run_writes_its_figures(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of tests that it did not run stay; every end of a test is told, also a failure in its teardown."""
    results = pytester.path / "results"
    results.mkdir()
    monkeypatch.setattr("tests.support.figures.RESULTS", results)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makeconftest(
        """
        import pytest
        from tests.support.figures import FigureBook, record

        def pytest_configure(config):
            config.pluginmanager.register(FigureBook())

        @pytest.fixture
        def breaks():
            yield
            assert False, "late"
        """
    )
    pytester.makepyfile(
        """
        import pytest
        from tests.support.figures import record

        def test_good(request): record(request.node, "R1", {"kills": 3, "violations": 0})
        def test_bad(request):
            record(request.node, "R1", {"kills": 1, "violations": 1})
            assert 0, "one violation"
        def test_late(request, breaks): record(request.node, "R2", {"cuts": 1})
        def test_skipped(): pytest.skip("no root")
        """
    )
    done = pytester.runpytest_inprocess("-k", "not good")
    done.stdout.fnmatch_lines(
        ["*R1  1 kills, [*][*]1 violations[*][*], [*][*]1 tests failed*", "*SKIPPED*no root*"]
    )
    pytester.runpytest_inprocess("-k", "good")
    found = read_only_file(results)["tests"]
    outcomes = {name.rpartition("::")[2]: test["outcome"] for name, test in found.items()}
    assert outcomes == {
        "test_good": "passed",
        "test_bad": "failed",
        "test_late": "failed",
        "test_skipped": "skipped",
    }
    assert "one violation" in found["test_a_run_writes_its_figures.py::test_bad"]["reason"]
    assert [figure["cuts"] for test in found.values() for figure in test["figures"] if "cuts" in figure] == [
        1
    ]


def read_only_file(folder: Path) -> Any:
    """Read the one JSON file of a folder."""
    (file,) = folder.iterdir()
    return json.loads(file.read_text())
