"""What passes between us and whoever started us: systemd with `Type=notify`, or our own parent (see workers)."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from typing import Literal

STEP_DOWN = signal.SIGUSR1
"""Tells a worker that another takes over: it listens no more, and ends as it does by SIGTERM."""

NOTIFY_SOCKET = "NOTIFY_SOCKET"
"""The variable with the address of whoever wants to know how far we are: sd_notify(3)."""


def tell_supervisor(state: Literal["READY=1", "STOPPING=1"]) -> None:
    """Send a state as sd_notify(3) does. Whoever does not listen costs us nothing."""
    address = os.environ.get(NOTIFY_SOCKET)
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
