"""Tells systemd how far we are, where it started us with `Type=notify`."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Literal

_VARIABLE = "NOTIFY_SOCKET"


def tell_supervisor(state: Literal["READY=1", "STOPPING=1"]) -> None:
    """Send a state as sd_notify(3) does. Whoever does not listen costs us nothing."""
    address = os.environ.get(_VARIABLE)
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
