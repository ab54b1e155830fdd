"""Structured logs: one JSON object a line with the request id, or short console lines.

Whatever a message carries in ``extra`` becomes a field. Messages name objects by
id only; prompts, completions and secrets are never passed to a logger.
"""

from __future__ import annotations

import logging
import logging.config
import time
from typing import Any

import msgspec

_encode = msgspec.json.Encoder(enc_hook=str).encode
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """``{"at", "level", "logger", "message", …extra}``; times in UTC, milliseconds."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "at": f"{at}.{int(record.msecs):03d}Z",
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
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
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
