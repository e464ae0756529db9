"""Event-loop lag from outside: how late `/healthz` answers, asked every 10 ms until stdin closes.

`python -m benchmarks.probe PORT` prints the delays in microseconds as JSON. A process of its own, so that the load
generator's work is not counted. A question that came due while another one waited counts too, from then on: a loop that
blocks for 100 ms delays ten answers. Nothing is carried over to later ones: a queue of our own is not its lag. A
delay includes the way there and back and the wait for a core: it is an upper bound of the lag.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from benchmarks.processes import HOST, ROOT, BenchError
from benchmarks.result import Lag

_EVERY_NS = 10_000_000
_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n"


class Probe:
    """Asks a server while a block runs; `lag` holds the outcome afterwards."""

    lag: Lag

    def __init__(self, port: int) -> None:
        self._port = port

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.probe", str(self._port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            out, _ = self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, _ = self._process.communicate()
        if error is None:
            if self._process.returncode != 0:
                raise BenchError("the lag probe got no answer from /healthz")
            self.lag = Lag.of([delay / 1000 for delay in json.loads(out)])


def main() -> None:
    from benchmarks.framing import Message

    delays_us: list[int] = []
    with socket.create_connection((HOST, int(sys.argv[1])), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        due = time.perf_counter_ns()
        while True:
            wait_s = max(0.0, (due - time.perf_counter_ns()) / 1e9)
            if select.select([sys.stdin], [], [], wait_s)[0]:
                break
            connection.sendall(_REQUEST)
            message = Message()
            while not message.done:
                data = connection.recv(65536)
                if not data:
                    sys.exit(1)
                message.feed(data)
            if message.status != 200:
                sys.exit(1)
            answered = time.perf_counter_ns()
            while due <= answered:  # the ones that came due meanwhile would have been answered with it
                delays_us.append((answered - due) // 1000)
                due += _EVERY_NS
    print(json.dumps(delays_us))


if __name__ == "__main__":
    main()
