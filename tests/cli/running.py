"""Commands run as a shell runs them."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from pixie_proxy import logs
from pixie_proxy.cli import main

PIXIE = (sys.executable, "-m", "pixie_proxy")
_UNWANTED = ("PIXIE_", "OPENAI_")


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return self.err.splitlines()


def environment(**more: str) -> dict[str, str]:
    """Give the environment of a shell that knows nothing of us."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_UNWANTED)} | more


async def pixie(*arguments: str, cwd: Path, prefix: tuple[str, ...] = (), **environ: str) -> Ended:
    """Run a command to its end."""
    process = await asyncio.create_subprocess_exec(
        *prefix,
        *PIXIE,
        *arguments,
        cwd=cwd,
        env=environment(**environ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(process.returncode or 0, out.decode(), err.decode())


async def pixie_here(*arguments: str) -> Ended:
    """Run a command in a thread of this process: most of a process's time is its start. Paths must be whole."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))

    def run() -> int:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        return int(ended.value.code or 0)

    # Logging is this process's own.
    with patch.object(logs, "set_up"), redirect_stdout(out), redirect_stderr(err):
        code = await asyncio.to_thread(run)
    return Ended(code, *[each.buffer.getvalue().decode() for each in (out, err)])


@asynccontextmanager
async def serving(
    *arguments: str, cwd: Path, **environ: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run a command that serves; give it and the first line that it says on stderr about its address."""
    process = await asyncio.create_subprocess_exec(
        *PIXIE, *arguments, cwd=cwd, env=environment(**environ), stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        line = b""
        while b"serves http" not in line:
            line = await asyncio.wait_for(process.stderr.readline(), 20)
            assert line, "it ended before it served"
        yield process, line.decode()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
