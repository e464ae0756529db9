"""Processes that a run starts and ends by their own id, and what can be read of them from outside."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parent.parent


class BenchError(Exception):
    """A figure can't be measured; the text says why."""


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One server under measurement. It is up when `health_path` answers 200."""

    def __init__(
        self, name: str, command: list[str], *, port: int, folder: Path, health_path: str = "/healthz"
    ) -> None:
        self.name = name
        self.port = port
        self._health_path = health_path
        self._command = command
        self._log = folder / f"{name}.log"

    @property
    def host(self) -> str:
        """Tell its address, as URLs want it."""
        return f"{HOST}:{self.port}"

    def __enter__(self) -> Self:
        """Start, and wait until it answers."""
        self.spawn()
        try:
            self.wait_up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, whatever happened."""
        self.stop()

    def spawn(self) -> None:
        """Start without waiting. Settings in our own environment must not reach what is measured."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PIXIE_")}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, cwd=ROOT
            )
        self.pid = self._process.pid

    def wait_up(self, timeout_s: float = 20, every_s: float = 0.005) -> None:
        """Wait for the first 200 of the health check."""
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if self._process.poll() is not None:
                raise BenchError(
                    f"{self.name} ended with code {self._process.returncode}: {self.last_words()}"
                )
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} did not come up within {timeout_s:g} s: {self.last_words()}")
            time.sleep(every_s)

    def stop(self) -> None:
        """Ask it to end, then insist."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def last_words(self) -> str:
        """Quote the end of its log."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "(it said nothing)"

    def settle(self, timeout_s: float = 20) -> float:
        """Wait until it has no work left, so that it doesn't disturb the next load; return how long that took."""
        process = psutil.Process(self.pid)
        started = time.monotonic()
        before = cpu_s(process)
        while time.monotonic() - started < timeout_s:
            time.sleep(0.1)
            after = cpu_s(process)
            if after - before <= 0.02:
                break
            before = after
        return max(0.0, time.monotonic() - started - 0.1)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", self._health_path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class Memory:
    """Peak memory of a server and of its children while a block runs."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.idle_bytes = 0
        self.peak_bytes = 0
        self.children_bytes = 0

    def __enter__(self) -> Self:
        """Note what the server takes now, and look every 50 ms from here on."""
        self.idle_bytes = self.peak_bytes = self._process.memory_info().rss
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop looking; Linux itself knows the peak between two looks (it counts from the process's start)."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
            line = next(line for line in lines if line.startswith("VmHWM:"))
            self.peak_bytes = max(self.peak_bytes, int(line.split()[1]) * 1024)

    def _sample(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while not self._stop.wait(0.05):
                self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)
                self.children_bytes = max(self.children_bytes, _children_bytes(self._process))


def _children_bytes(process: psutil.Process) -> int:
    total = 0
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += child.memory_info().rss
    return total


def cpu_s(process: psutil.Process) -> float:
    """Add up the processor time of a process and of the children that still run."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system
    return total
