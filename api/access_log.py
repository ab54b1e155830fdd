"""A line of the access log for each request of the token path."""

from __future__ import annotations

import logging
import time

from api.http import Request

access_log = logging.getLogger("api.access")
_ACCESS = vars(logging.LogRecord(access_log.name, logging.INFO, __file__, 0, "request", None, None))


class _AccessRecord(logging.LogRecord):
    """A line of the access log. Its parent would walk the stack and ask for thread and process
    to say who logs, for every request."""

    def __init__(self, **fields: object):
        now = time.time()
        vars(self).update(_ACCESS, created=now, msecs=now % 1 * 1000, **fields)


def log_access(request: Request, path: str, status: int) -> None:
    if access_log.isEnabledFor(logging.INFO):
        line = _AccessRecord(
            request_id=request.request_id,
            method=request.scope["method"],
            path=path[:200],
            status=status,
            organization=request.organization,
            duration_ms=round((time.monotonic() - request.started_at) * 1000, 1),
        )
        access_log.handle(line)
