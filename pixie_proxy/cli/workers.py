"""Several processes behind one listening socket: started, watched, replaced one by one, and led to their end.

The socket is opened here and inherited, so its queue of connections outlives any process: none is refused while one
is replaced. SIGTERM leads all to their end (twice: at once); SIGHUP replaces them, each old one going only when its
successor is ready. A process that dies is started again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial

from pixie_proxy.cli.supervisor import NOTIFY_SOCKET, STEP_DOWN, tell_supervisor

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
"""How long to wait before a process that died is started again; each time in a row twice as long."""
_LIVES_WELL_S = 60.0
_READY_WITHIN_S = 120.0
"""How long a successor may take: a migration may be under way. The old one serves meanwhile."""


@dataclass(slots=True, kw_only=True, eq=False)
class Worker:
    """One process. `ready` is set when it serves."""

    number: int
    process: asyncio.subprocess.Process
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    began: float = field(default_factory=time.monotonic)

    @property
    def serves(self) -> bool:
        """Whether it got ready and has not ended."""
        return self.ready.is_set() and self.process.returncode is None

    def tell(self, what: signal.Signals) -> None:
        """Send a signal, if it is still there."""
        if self.process.returncode is None:
            self.process.send_signal(what)

    async def ready_or_ended(self) -> None:
        """Wait for the one or the other."""
        waits = [asyncio.ensure_future(self.ready.wait()), asyncio.ensure_future(self.process.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


class Workers:
    """So many processes of one command."""

    def __init__(self, command: Sequence[str], sockets: Sequence[socket.socket], count: int) -> None:
        """Plan `count` processes of `command`, which is given `--fd` and `--worker` as well."""
        self._fds = [each.fileno() for each in sockets]
        self._command = [*command, *[f"--fd={fd}" for fd in self._fds]]
        self._count = count
        self._alive: set[Worker] = set()  # those that step down, or are not ready yet, too
        self._now: dict[int, Worker] = {}
        self._is_stopping = False
        self._replacing: asyncio.Task[None] | None = None
        self._wants_replacing = False

    async def run(self, ready: Callable[[], None]) -> int:
        """Serve until SIGTERM or SIGINT; `ready` is called once all serve. Return the exit code."""
        loop = asyncio.get_running_loop()
        for told in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(told, self._stop)
        # One goes first: it migrates the index, makes what a first start makes, and tells what is wrong once.
        first = self._now[0] = await self._start(0)
        await first.ready_or_ended()
        if first.serves:
            for number in range(1, self._count):
                self._now[number] = await self._start(number)
            loop.add_signal_handler(signal.SIGHUP, self._replace_all)
            await asyncio.gather(*[worker.ready_or_ended() for worker in self._now.values()])
            ready()
            tell_supervisor("READY=1")
            codes = await asyncio.gather(*[self._keep(number) for number in self._now])
        else:
            codes = [await first.process.wait()]
        await asyncio.gather(*[worker.process.wait() for worker in self._alive])
        bad = [code for code in codes if code != 0]
        return max(1, *bad) if bad else 0  # a signal's number is negative

    def _stop(self) -> None:
        """Lead all to their end; called again, at once."""
        self._is_stopping = True
        tell_supervisor("STOPPING=1")
        for worker in self._alive:
            worker.tell(signal.SIGTERM)

    async def _start(self, number: int) -> Worker:
        with ExitStack() as closing:
            folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="pixie-"))
            listener = closing.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            listener.setblocking(False)
            listener.bind(address := f"{folder}/ready")
            process = await asyncio.create_subprocess_exec(
                *self._command,
                f"--worker={number}",
                env={**os.environ, NOTIFY_SOCKET: address},
                stdin=asyncio.subprocess.PIPE,  # whose end tells a worker that we are gone
                pass_fds=self._fds,
            )
            worker = Worker(number=number, process=process)
            loop = asyncio.get_running_loop()
            loop.add_reader(listener, _hear, listener, worker.ready)
            closing.callback(loop.remove_reader, listener)
            closing.callback(self._alive.discard, worker)
            self._alive.add(worker)
            asyncio.ensure_future(process.wait()).add_done_callback(partial(_close, closing.pop_all()))
        if self._is_stopping:
            worker.tell(signal.SIGTERM)
        return worker

    async def _keep(self, number: int) -> int:
        """Have a worker of this number until all are to end; return how the last one ended."""
        pause_s = _FIRST_PAUSE_S
        while True:
            worker = self._now[number]
            code = await worker.process.wait()
            if worker is not self._now[number]:
                continue  # it was replaced
            if self._is_stopping:
                return code
            log.error("a worker died and is started again", extra={"worker": number, "code": code})
            if time.monotonic() - worker.began > _LIVES_WELL_S:
                pause_s = _FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            self._now[number] = await self._start(number)

    def _replace_all(self) -> None:
        """Replace every worker; asked again meanwhile, once more."""
        self._wants_replacing = True
        if self._replacing is None or self._replacing.done():
            self._replacing = asyncio.create_task(self._replace())

    async def _replace(self) -> None:
        while self._wants_replacing and not self._is_stopping:
            self._wants_replacing = False
            for number in range(self._count):
                new = await self._start(number)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_READY_WITHIN_S):
                        await new.ready_or_ended()
                if self._is_stopping:
                    return
                if not new.serves:
                    new.tell(signal.SIGTERM)
                    log.error("a new worker did not get ready: the old ones stay", extra={"worker": number})
                    return
                old, self._now[number] = self._now[number], new
                old.tell(STEP_DOWN)
            log.warning("all workers were replaced", extra={"workers": self._count})


def _hear(listener: socket.socket, ready: asyncio.Event) -> None:
    if b"READY=1" in listener.recv(256):
        ready.set()


def _close(closing: ExitStack, _: object) -> None:
    closing.close()
