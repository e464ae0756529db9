"""Big forms sent at once: a thread each, files straight from the page cache, so that sending costs next to nothing."""

from __future__ import annotations

import contextlib
import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.processes import HOST, BenchError
from benchmarks.servers import KEY

_BOUNDARY = "benchmark-boundary-0123456789abcdef"
_LONGEST_S = 200  # in all, so that a whole run stays within its time


def send_all(port: int, *, uploads: int, files: int, picture: Path, body_bytes: int) -> float:
    """Send `uploads` forms at once, each `files` times `picture`; return the seconds until all are answered."""
    started = time.monotonic()
    with ThreadPoolExecutor(uploads) as pool:
        deadline = started + _LONGEST_S
        sent = [
            pool.submit(_send, port, number, files, picture, body_bytes, deadline)
            for number in range(uploads)
        ]
        errors = [str(error) for future in sent if (error := future.exception()) is not None]
    if errors:
        raise BenchError(f"{len(errors)} of {uploads} uploads failed: {errors[0]}")
    return time.monotonic() - started


def _send(port: int, number: int, files: int, picture: Path, body_bytes: int, deadline: float) -> None:
    size = picture.stat().st_size
    texts = {"model": "gpt-image-2", "prompt": f"Put them together, number {number}", "quality": "low"}
    opening = "".join(_part(f'name="{name}"', value) for name, value in texts.items()).encode()
    heads = [
        _part(f'name="image[]"; filename="{at}.png"', "", "Content-Type: image/png\r\n")[:-2].encode()
        for at in range(files)
    ]
    closing = f"--{_BOUNDARY}--\r\n".encode()
    length = len(opening) + sum(len(head) + size + 2 for head in heads) + len(closing)
    connection = http.client.HTTPConnection(HOST, port, timeout=_LONGEST_S)
    try:
        connection.connect()
        connection.putrequest("POST", "/v1/images/edits")
        connection.putheader("Authorization", f"Bearer {KEY}")
        connection.putheader("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}")
        connection.putheader("Content-Length", str(length))
        connection.endheaders()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a refusal may still be read
            connection.send(opening)
            for head in heads:
                connection.sock.settimeout(max(1.0, deadline - time.monotonic()))
                connection.send(head)
                with picture.open("rb") as file:
                    connection.sock.sendfile(file, 0, size)
                connection.send(b"\r\n")
            connection.send(closing)
        connection.sock.settimeout(max(1.0, deadline - time.monotonic()))
        response = connection.getresponse()
        body = response.read()
    except TimeoutError:
        raise BenchError(f"not done after {_LONGEST_S} s") from None
    finally:
        connection.close()
    if response.status != 200 or len(body) != body_bytes:
        raise BenchError(f"status {response.status} with {len(body)} bytes: {body[:200]!r}")


def _part(disposition: str, value: str, more: str = "") -> str:
    return f"--{_BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n{more}\r\n{value}\r\n"
