"""Logs: one JSON object a line, with request ids and without prompts, images or keys."""

from __future__ import annotations

import logging
import sys
import time
import traceback

import orjson

_STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "message",
    "asctime",
    "taskName",
}
_MAX_CHARACTERS = 4000


class JsonFormatter(logging.Formatter):
    """Writes a record as JSON: control characters escaped, every text cut to a bound."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:_MAX_CHARACTERS],
        }
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                line[name] = (
                    value if isinstance(value, int | float | bool | None) else str(value)[:_MAX_CHARACTERS]
                )
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = "".join(traceback.format_exception(record.exc_info[1]))[-_MAX_CHARACTERS:]
        return orjson.dumps(line).decode()


def set_up(level: int = logging.INFO) -> None:
    """Send all logs to stderr as JSON. aiohttp's access log stays off: it would write full addresses."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in ("aiohttp.access", "asyncio", "aiosqlite"):
        logging.getLogger(name).setLevel(logging.WARNING)
