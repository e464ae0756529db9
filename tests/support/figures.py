"""What `make torture` measured: each test's figures in one raw JSON file, from which docs/guarantees.md is made.

`record_figure` (tests/conftest.py) attaches figures to a test's report; this plugin collects them, prints them at the
end, and writes benchmarks/results/torture-<commit>.json. A run of some tests only replaces their part of it.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest

from benchmarks import machine
from benchmarks.guarantees import RESULTS, summed, told
from benchmarks.processes import ROOT

_PROPERTY = "figure"
_MEASURED = ("pixie_proxy", "tests")
"""Whose changes make a commit's figures another's."""

Figures = dict[str, int | float | str]


class RecordFigure(Protocol):
    """Record what a test found out about a statement."""

    def __call__(self, statement: str, **figures: float | str) -> None:
        """Give `statement` as its id (R12).

        Whole numbers are counts, which add up over a statement's tests; of others the page shows the range, of texts
        the list. The unit is the end of the name (`_s`, `_ms`, `_percent`, `_bytes`); `seed` and `violations` are
        names that everybody uses.
        """


def record(node: pytest.Item, statement: str, figures: Figures) -> None:
    """Attach figures to a test, so that they come with its report from whatever process."""
    node.user_properties.append((_PROPERTY, {"statement": statement, **figures}))


class FigureBook:
    """A pytest plugin: collects, prints and writes."""

    def __init__(self) -> None:
        """Begin a run."""
        self._tests: dict[str, dict[str, Any]] = {}
        self._begun = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take down how a test ended, and its figures."""
        if report.when == "setup" and report.outcome == "passed":
            return
        if report.when == "teardown" and (report.outcome == "passed" or report.nodeid not in self._tests):
            return
        self._tests[report.nodeid] = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(report.duration, 1),
            "outcome": report.outcome,
            **({"reason": _reason(report)} if report.outcome != "passed" else {}),
            "figures": [value for name, value in report.user_properties if name == _PROPERTY],
        }
        self._write()

    def _write(self) -> None:
        """Write the raw figures, after each test: a run of hours may be broken off."""
        commit, is_dirty = machine.commit(*_MEASURED)
        path = RESULTS / f"torture-{commit}.json"
        earlier = json.loads(path.read_text(encoding="utf-8"))["tests"] if path.exists() else {}
        raw = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit,
            "dirty": is_dirty,
            "machine": machine.describe(Path(tempfile.gettempdir())),
            "is_root": os.geteuid() == 0,
            "tests": dict(sorted({**earlier, **self._tests}.items())),
        }
        path.write_text(json.dumps(raw, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print a line a statement."""
        say = terminalreporter.write_line
        terminalreporter.section(f"torture, {time.monotonic() - self._begun:.0f} s")
        for statement, tests in sorted(_by_statement(self._tests).items(), key=lambda each: int(each[0][1:])):
            say(f"{statement:>5}  {told(summed(statement, tests))}")
        for name, test in self._tests.items():
            if test["outcome"] != "passed":
                say(f"{test['outcome'].upper()}  {name}: {test['reason']}")


def _by_statement(tests: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for test in tests.values():
        for statement in dict.fromkeys(figure["statement"] for figure in test["figures"]):
            found.setdefault(statement, []).append(test)
    return found


def _reason(report: pytest.TestReport) -> str:
    """Say in one line why a test failed or was skipped, without a path of this machine."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    lines = [line.removeprefix("E").strip() for line in report.longreprtext.splitlines() if line[:1] == "E"]
    return (lines or [report.longreprtext.strip()])[0].replace(str(ROOT), "…")[:300]
