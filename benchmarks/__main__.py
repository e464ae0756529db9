"""`python -m benchmarks`: measure, print the table, keep the raw figures."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import gallery, kept, machine, page, scale, scale_page, servers, speed, start, weight
from benchmarks.answers import SEED, answer
from benchmarks.bench import Bench
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.processes import ROOT, BenchError
from benchmarks.result import Figure, Run

MEASUREMENTS: dict[str, Callable[[Bench], list[Figure]]] = {
    "start": start.start,
    "latency": speed.latency,
    "small": speed.small,
    "large": speed.large,
    "memory": weight.memory,
    "uploads": weight.forms,
    "kept": kept.kept,
    "gallery": gallery.gallery,
    "scale": scale.scale,
}
_MEASURED = ("pixie_proxy", "benchmarks/*.py")
"""Whose changes make a commit's figures another's."""
_MINIMUM_BYTES = 2_000_000_000


def main() -> int:
    options = _options()
    console = Console()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are ended on the way out
    plan = QUICK if options.quick else FULL
    names = [name for name in MEASUREMENTS if not options.only or name in options.only]
    try:
        with work_folder() as folder:
            run = _measure(plan, names, folder, console)
    except BenchError as exc:
        print(f"benchmarks: {exc}", file=sys.stderr)
        return 2
    _print(run, console)
    out = options.out
    if out is None and not options.quick and not options.only:
        out = ROOT / "benchmarks" / "results" / f"{run.date[:10]}-{run.commit}.json"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(run.to_json(), indent=1, ensure_ascii=False) + "\n")
        console.print(f"Raw figures: {out}")
    if options.write_docs:
        for written in (page, scale_page) if not options.only else (scale_page,):
            written.write(run)
            console.print(f"Written: {written.PATH.relative_to(ROOT)}")
    return 1 if any(figure.error for figure in run.figures) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="under a minute, for a first look: nothing to judge by"
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(MEASUREMENTS), metavar="NAME", help=", ".join(MEASUREMENTS)
    )
    parser.add_argument("--out", type=Path, help="where the raw figures go (whole runs: benchmarks/results/)")
    parser.add_argument(
        "--write-docs",
        action="store_true",
        help="write docs/benchmarks.md and docs/scale.md from this run",
    )
    options = parser.parse_args()
    if options.write_docs and (options.quick or options.only not in (None, ["scale"])):
        parser.error("--write-docs needs a whole run, or one of scale alone")
    return options


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """Make a folder on the repository's disk: /tmp may be memory, where fsync costs nothing."""
    parent = ROOT / "build" / "benchmarks"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            parent.rmdir()


def _measure(plan: Plan, names: list[str], folder: Path, console: Console) -> Run:
    """Take one measurement after the other; one that fails doesn't end the others."""
    started = time.monotonic()
    date = datetime.now(UTC).isoformat(timespec="seconds")
    commit, dirty = machine.commit(*_MEASURED)
    rng = random.Random(SEED)
    sizes = {"27kb": (26_600, 1), "2mb": (2_000_000, 1), "8mb": (2_000_000, 4), "32mb": (8_000_000, 4)}
    answers = {name: answer(b64_bytes, images, rng) for name, (b64_bytes, images) in sizes.items()}
    figures: list[Figure] = []
    # Drawn between loads only: a thread that draws would take time from the load generator.
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with (
        Progress(*columns, console=console, auto_refresh=False, transient=True) as progress,
        servers.nginx(folder, answers) as nginx,
    ):
        task = progress.add_task("", total=len(names))

        def step(text: str) -> None:
            progress.update(task, description=text, refresh=True)

        bench = Bench(plan=plan, folder=folder, answers=answers, nginx=nginx, step=step)
        if bench.free_bytes() < _MINIMUM_BYTES:
            raise BenchError(f"less than {_MINIMUM_BYTES / 1e9:.0f} GB free on the disk")
        facts = machine.describe(folder)
        if facts["filesystem"] in {"tmpfs", "ramfs"}:
            bench.notes.append("The data folder was in memory: fsync cost nothing.")
        unrest: dict[str, dict[str, float]] = {}
        for name in names:
            step(f"{name}: waiting for a quiet machine")
            watch = machine.Unrest(folder)
            watch.wait(plan.quiet_s)
            try:
                with watch:
                    figures.extend(MEASUREMENTS[name](bench))
            except BenchError as exc:
                figures.append(Figure(name=name, title=name, bar=0, at_most=True, unit="", error=str(exc)))
            unrest[name] = watch.seen
            progress.advance(task)
        figures.extend(_lag(bench))
        for name, seen in unrest.items():
            if seen["others_percent"] > machine.QUIET_PERCENT:
                percent = f"{seen['others_percent']:.0f} %"
                bench.notes.append(
                    f"{name}: other work, or the kernel's own, took {percent} of the cores meanwhile."
                )
        if machine.commit(*_MEASURED) != (commit, dirty):
            bench.notes.append("The work tree changed during the run: the figures are not of one version.")
    return Run(
        date=date,
        commit=commit,
        dirty=dirty,
        quick=plan.quick,
        seed=SEED,
        seconds=round(time.monotonic() - started, 1),
        plan=asdict(plan),
        machine=facts,
        unrest=unrest,
        figures=figures,
        notes=bench.notes,
    )


def _lag(bench: Bench) -> list[Figure]:
    """Judge the worst of all loads; the bare pass-through under the same loads shows what the machine adds."""
    ours = {name: lags["proxy"] for name, lags in bench.lags.items() if "proxy" in lags}
    if not ours:
        return []
    worst = max(ours, key=lambda name: ours[name].p99_ms)
    bare = bench.lags[worst].get("bare")
    figure = Figure(
        name="lag",
        title="event-loop lag during all of it: worst p99",
        bar=50,
        at_most=True,
        unit="ms",
        value=ours[worst].p99_ms,
        context=f"under “{worst}”; longest {max(lag.max_ms for lag in ours.values()):.0f} ms"
        + (f"; bare under the same {bare.p99_ms:.1f} ms" if bare else ""),
        details={
            name: {role: asdict(lag) for role, lag in lags.items()} for name, lags in bench.lags.items()
        },
    )
    return [figure]


def _print(run: Run, console: Console) -> None:
    table = Table("figure", "bar", "measured (range)", "verdict", "beside it", title="pixie_proxy benchmarks")
    for figure in run.figures:
        colour = {True: "green", False: "red", None: "yellow"}[figure.met]
        table.add_row(
            figure.title,
            figure.bar_text,
            figure.value_text,
            f"[{colour}]{escape(figure.verdict)}[/]",
            escape(figure.context),
        )
    console.print(table)
    facts = run.machine
    console.print(
        f"{facts['cores']} × {facts['cpu']}, Python {facts['python']}, data on {facts['filesystem']} (fsync "
        f"{run.fsync_text}), {run.seconds:.0f} s in all"
    )
    for note in [
        *run.notes,
        *(["A quick run: good for a first look, not for judging."] if run.quick else []),
    ]:
        console.print(f"Note: {note}")


if __name__ == "__main__":
    sys.exit(main())
