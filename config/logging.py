"""Structured logs: one JSON object a line with the request id, or short console lines.

Whatever a message carries in ``extra`` becomes a field. Messages name objects by
id only; prompts, completions and secrets are never passed to a logger.
"""

from __future__ import annotations

import asyncio
import logging
import logging.config
import time
from contextlib import nullcontext
from typing import Any

import msgspec

_encode = msgspec.json.Encoder(enc_hook=str).encode
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


# Access lines come at the rate of requests, and a write for each is a tenth of a request's CPU.
BUFFERED = "api.access"
FLUSH_S = 0.1


class LineHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes lines to stderr; those of ``BUFFERED`` together, at most ``FLUSH_S`` late.

    Only on an event loop, whose timer flushes them; a process that is killed loses
    what came in its last tenth of a second. Any other line goes out at once, after them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            is_timed = bool(self._lines)  # who came first set the timer
            self._lines.append(self.format(record))
            if record.name != BUFFERED or not (is_timed or self._set_timer()):
                self.flush()
        except Exception:
            self.handleError(record)

    def _set_timer(self) -> bool:
        """Have the running loop flush what waits, if there is one."""
        try:
            asyncio.get_running_loop().call_later(FLUSH_S, self.flush)
        except RuntimeError:
            return False
        return True

    def flush(self) -> None:
        with self.lock or nullcontext():
            if self._lines:
                lines, self._lines = self._lines, []
                self.stream.write("\n".join(lines) + "\n")
            super().flush()


class JsonFormatter(logging.Formatter):
    """``{"at", "level", "logger", "message", …extra}``; times in UTC, milliseconds."""

    _second, _second_text = 0, ""

    def _at(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if second != self._second:  # many lines share one
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._second_text}.{int(record.msecs):03d}Z"

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "at": self._at(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and not name.startswith("_"):
                entry[name] = value
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return _encode(entry).decode()


def configure(options: dict[str, Any]) -> None:
    """Django's LOGGING_CONFIG hook; ``options`` has ``level`` and ``format``."""
    # Nobody reads them, and each costs a system call or a look-up a line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    formatter: dict[str, Any] = (
        {"()": JsonFormatter}
        if options.get("format") == "json"
        else {"format": "%(asctime)s %(levelname).1s %(name)s %(message)s", "datefmt": "%H:%M:%S"}
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": formatter},
            "handlers": {"stderr": {"()": LineHandler, "formatter": "line"}},
            "root": {"handlers": ["stderr"], "level": options.get("level", "INFO")},
            "loggers": {
                # Access lines are ours (api.access); uvicorn's would log query strings.
                "uvicorn.access": {"level": "WARNING", "propagate": True, "handlers": []},
                "celery.app.trace": {"level": "WARNING"},
                "celery.beat": {"level": "WARNING"},  # a line a second that says nothing
                "celery.worker.strategy": {"level": "WARNING"},
            },
        }
    )
