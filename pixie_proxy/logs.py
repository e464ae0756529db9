"""Logs: one JSON object a line, at most 4 KiB, with request ids and without prompts, images, keys or full addresses.

On a terminal the same is written for people. Lines go straight to the descriptor of stderr, and only when it takes
them at once: a log whose reader is stuck must cost its own lines, not the event loop.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import time
import traceback
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_network
from select import PIPE_BUF

import orjson

from pixie_proxy.errors import ConfigError

LEVEL_VARIABLE = "PIXIE_LOG_LEVEL"
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

_STDERR = 2
_BOUNDS = (3000, 1000, 200, 50)
"""Characters that a text may have. The first bound at which the whole line fits is taken."""

_NUMBERS = (int, float)  # `int | float` would be made anew each time
_STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "message",
    "asctime",
    "taskName",
}
# What orjson leaves alone and a terminal or a reader of lines would obey: DEL and the C1 controls (an ESC of one
# character is among them), Unicode's line ends, and the marks that turn the direction of writing.
_HARMFUL = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def level_of(environ: Mapping[str, str], default: int = logging.INFO) -> int:
    """Read PIXIE_LOG_LEVEL. Raises ConfigError."""
    said = environ.get(LEVEL_VARIABLE)
    if not said:
        return default
    if said.lower() not in _LEVELS:
        raise ConfigError("PIXIE_LOG_LEVEL: must be debug, info, warning or error")
    return _LEVELS[said.lower()]


def set_up(level: int = logging.INFO) -> None:
    """Send all logs to stderr: our own from `level` on, of libraries only what is wrong.

    Libraries would quote statements and addresses in theirs (aiosqlite tells every parameter at DEBUG).
    """
    handler = _DirectHandler()
    handler.setFormatter(TextFormatter() if os.isatty(_STDERR) else JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    logging.getLogger("pixie_proxy").setLevel(level)
    server = logging.getLogger("aiohttp.server")
    server.filters.clear()
    server.addFilter(_hide_client)
    # No line says these, and asking for them is a third of a record's price (logging's own advice).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - as documented under "Optimization"


@lru_cache(maxsize=1024)
def short_address(address: str | None) -> str | None:
    """Give the network of an address (/24 of IPv4, /48 of IPv6): enough to tell sites apart, not people."""
    if address is None:
        return None
    try:
        return str(ip_network((address.partition("%")[0], 48 if ":" in address else 24), strict=False))
    except ValueError:
        return None


def take_lost() -> int:
    """Tell how many lines stderr did not take since this was asked before."""
    return sum(
        [
            handler.take_lost()
            for handler in logging.getLogger().handlers
            if isinstance(handler, _DirectHandler)
        ]
    )


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON, whatever it holds."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line, at most PIPE_BUF - 1 bytes: then nobody else's line can break into it."""
        for bound in _BOUNDS:
            line = _dump(_fields(record, bound))
            if len(line) < PIPE_BUF and (line.isascii() or len(line.encode()) < PIPE_BUF):
                return line
        fields = _fields(record, _BOUNDS[-1])
        return _dump({name: fields[name] for name in ("time", "level", "logger", "message")})


class TextFormatter(logging.Formatter):
    """Writes a record for people: time, level, message, fields; tracebacks on lines of their own."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the lines."""
        fields = _fields(record, _BOUNDS[0])
        at, level, message = str(fields.pop("time"))[11:23], fields.pop("level"), fields.pop("message")
        error = str(fields.pop("error", ""))
        fields.pop("logger")
        told = [f"{name}={_plain(value)}" for name, value in fields.items() if value is not None]
        head = "  ".join([f"{at} {level!s:8} {_plain(message)}", *told])
        return "\n".join([head, *[f"    {_plain(line)}" for line in error.splitlines()]])


def _fields(record: logging.LogRecord, bound: int) -> dict[str, object]:
    """Give what a record says, every text cut to `bound` characters; of a traceback the end."""
    line: dict[str, object] = {
        "time": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "logger": record.name[:bound],
        "message": record.getMessage()[:bound],
    }
    for name, value in record.__dict__.items():
        if name not in _STANDARD and value is not None:
            line[name] = value if isinstance(value, _NUMBERS) else str(value)[:bound]
    if record.exc_info and record.exc_info[1] is not None:
        line["error"] = "".join(traceback.format_exception(record.exc_info[1]))[-bound:]
    return line


@lru_cache(maxsize=2)
def _second(epoch_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch_s))


def _dump(fields: dict[str, object]) -> str:
    try:
        line = orjson.dumps(fields).decode()
    except TypeError:  # half a surrogate pair, or a number of more than 64 bits
        return json.dumps(fields)
    return _HARMFUL.sub(_escape, line)


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _plain(value: object) -> str:
    text = _dump({"": value})[4:-1]
    return text[1:-1] if text.startswith('"') else text


def _hide_client(record: logging.LogRecord) -> bool:
    """Take the client's address, and the bytes that it sent, out of what aiohttp says of broken requests."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return True
    record.args = ()
    if not type(error).__module__.startswith("aiohttp."):
        record.msg = "a request could not be handled"
        return True
    record.msg, record.exc_info = "a request could not be read", None
    record.levelno, record.levelname = logging.INFO, "INFO"  # nothing is wrong with us
    record.reason = type(error).__name__
    return logging.getLogger("pixie_proxy").isEnabledFor(logging.INFO)


class _DirectHandler(logging.Handler):
    """Writes lines to stderr in single pieces, as long as it takes them; says later how many it did not."""

    def __init__(self) -> None:
        super().__init__()
        self._ready = select.poll()
        self._ready.register(_STDERR, select.POLLOUT)
        self._untold = 0
        self._lost = 0

    def take_lost(self) -> int:
        """Give the count of lost lines and begin it again."""
        lost, self._lost = self._lost, 0
        return lost

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or count it as lost. Never raises, never waits."""
        try:
            line = self.format(record)
        except Exception as exc:  # noqa: BLE001 - a record that can't be told must not break what it tells of
            about = _record("a line could not be written", of=record.name, reason=type(exc).__name__)
            line = self.format(about)
        if self._untold:
            lost = _record("lines were lost: stderr did not take them", lines=self._untold)
            self._untold = 0 if self._write(self.format(lost)) else self._untold
        if self._untold or not self._write(line):
            self._untold += 1
            self._lost += 1

    def _write(self, line: str) -> bool:
        try:
            if not self._ready.poll(0):
                return False
            # A pipe that is ready takes this much at once; lines for people may be longer, and terminals take those.
            os.write(_STDERR, line.encode(errors="backslashreplace") + b"\n")
        except OSError:
            return False
        return True


def _record(message: str, **fields: object) -> logging.LogRecord:
    """Make a record about the log itself."""
    about = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": message}
    return logging.makeLogRecord({**about, **fields})
