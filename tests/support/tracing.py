"""What a process really did, in order: its fsyncs, renames and writes to sockets, as strace saw them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CALLS = "fsync,fdatasync,rename,renameat,renameat2,write,writev,sendto,sendmsg"
_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)", re.DOTALL)
_RESULT = re.compile(r"\) += (-?\d+)[^)]*$")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"\d+<((?:\\x[0-9a-f]{2})+|TCP(?:v6)?:\[[^\]]*(?:\][^>]*)?->[^>]*:(\d+)\])>")


@dataclass(slots=True)
class Step:
    """One system call: when it began and ended (line numbers of the trace), and what it was about.

    `paths` are the file of an fsync, or both names of a rename; `port` and `data` the peer and bytes of a socket write.
    """

    name: str
    began: int
    ended: int = -1
    paths: tuple[str, ...] = ()
    port: int | None = None
    data: bytes = b""


def strace(program: str, trace: Path) -> tuple[str, ...]:
    """Give the words to put before a command, so that it is traced into `trace`."""
    return (
        program,
        "-f",
        "--seccomp-bpf",
        "-yy",
        "-xx",
        "-s",
        "10000000",
        "-o",
        str(trace),
        "-e",
        f"trace={CALLS}",
    )


def read_trace(trace: Path) -> list[Step]:
    """Give the steps of a trace in the order in which they began; failed ones are left out."""
    steps: list[Step] = []
    running: dict[str, Step] = {}
    for number, line in enumerate(trace.read_text().splitlines()):
        match = _LINE.match(line)
        if match is None:
            continue
        pid, resumed, started, rest = match.groups()
        step = running.pop(pid) if resumed else _started(started, rest, number)
        if rest.endswith("<unfinished ...>"):
            running[pid] = step
            continue
        result = _RESULT.search(rest)
        if result is None or int(result[1]) < 0:
            continue
        step.ended = number
        step.data = step.data[: int(result[1])]
        steps.append(step)
    return sorted(steps, key=lambda step: step.began)


def _started(name: str, rest: str, number: int) -> Step:
    texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(rest)]
    if name.startswith("rename"):
        return Step(name, number, paths=tuple(text.decode() for text in texts))
    found = _DESCRIPTOR.search(rest)
    if found is None:
        return Step(name, number)
    if found[2]:
        return Step(name, number, port=int(found[2]), data=b"".join(texts))
    return Step(name, number, paths=(bytes.fromhex(found[1].replace("\\x", "")).decode(),))
