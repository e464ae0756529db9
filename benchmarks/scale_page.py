"""Writes the table of docs/scale.md from a run; the rest of that page is written by hand."""

from __future__ import annotations

import re

from benchmarks.processes import ROOT
from benchmarks.result import Run, number

PATH = ROOT / "docs" / "scale.md"
PREFIX = "scale-"
_TABLE = re.compile(r"(<!-- measured -->\n).*?(<!-- end -->)", re.DOTALL)
_HEAD = (
    "requests/s",
    "p50",
    "images kept/s",
    "cores: proxy",
    "PostgreSQL",
    "all",
    "a request: transactions (of them writing), fsyncs of its log",
    "at rest, transactions/s",
    "most used",
)


def render(run: Run) -> str:
    """Write the table, and on what it was made."""
    lines = ["| " + " | ".join(("", *_HEAD)) + " |", "|---" * (len(_HEAD) + 1) + "|"]
    for figure in run.figures:
        if figure.name.startswith(PREFIX) and figure.details:
            middle, told = figure.details["middle"], figure.details["statistics"]
            cells = [
                figure.title,
                figure.value_text.replace(f" {figure.unit}", ""),
                f"{middle['p50_ms']:.0f} ms",
                number(middle["kept_per_s"]),
                f"{middle['proxy_cores']:.2f}",
                f"{middle['database_cores']:.2f}" if told else "–",
                f"{middle['all_cores']:.2f}",
                f"{told['transactions']} ({told['writes']}), {told['syncs']}" if told else "–",
                f"{told['idle_per_s']}" if told else "–",
                figure.details["most_used"],
            ]
            lines.append("| " + " | ".join(cells) + " |")
    facts = run.machine
    others = run.unrest.get("scale", {}).get("others_percent", 0.0)
    state = " with changes" if run.dirty else ""
    cores = f"{facts['cores']} cores of {facts['cpu']}"
    made = (
        f"Measured on {run.date[:10]} at commit `{run.commit}`{state}, on {cores}; data on {facts['filesystem']}, "
        f"where writing and fsyncing 20 kB takes {run.fsync_text}; the kernel, PostgreSQL and strangers took "
        f"{others:.0f} % of the cores."
    )
    lines += ["", made]
    if run.quick:
        lines.append("A quick run: nothing to judge by.")
    return "\n".join(lines) + "\n"


def write(run: Run) -> None:
    """Put it in its place."""
    text = PATH.read_text(encoding="utf-8")
    PATH.write_text(_TABLE.sub(lambda match: match[1] + render(run) + match[2], text), encoding="utf-8")
