"""Where a server listens: on an address that it opens, or on sockets that somebody opened for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from pixie_proxy.errors import ConfigError

BACKLOG = 1024

_FIRST_FD = 3
"""Where systemd puts the first socket: sd_listen_fds(3)."""


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of `host`, all with the same port. Raises ConfigError with the remedy."""
    found: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            at = socket.socket(family, kind, protocol)
            found.append(at)
            at.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                at.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            at.bind((address[0], port, *address[2:]))
            at.listen(BACKLOG)
            port = at.getsockname()[1]  # any free one was asked for: the same for all
    except OSError as exc:
        for at in found:
            at.close()
        raise no_listener(host, port, exc) from None
    return found


def no_listener(host: str, port: int, exc: OSError) -> ConfigError:
    """Say that an address can't be listened on."""
    reason = (exc.strerror or str(exc)).rpartition(": ")[2]  # asyncio puts the address in front
    where = f"{host}:{port}"
    return ConfigError(f"server.port: can't listen on {where} ({reason}); choose another --port")


def given_sockets(fds: Sequence[int], environ: Mapping[str, str]) -> list[socket.socket]:
    """Take over the sockets of `fds`, else those that systemd opened for us, if any. Raises ConfigError."""
    if not fds and environ.get("LISTEN_PID") == str(os.getpid()):
        fds = range(_FIRST_FD, _FIRST_FD + int(environ.get("LISTEN_FDS", "0")))
    found = []
    for fd in fds:
        try:
            at = socket.socket(fileno=fd)
            if not at.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise OSError
        except OSError:
            raise ConfigError(
                f"--fd {fd}: this is no socket that listens; whoever starts us must open and pass it"
            ) from None
        os.set_inheritable(fd, False)
        found.append(at)
    return found


def shown_address(address: tuple[Any, ...]) -> str:
    """Write a socket's address so that it can be opened."""
    host, port = address[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
