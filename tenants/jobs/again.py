"""What a kind of job raises that has rules of its own for when to go on."""

from __future__ import annotations

from datetime import datetime, timedelta


class TryAgain(Exception):
    """The attempt failed, as attempts of this kind do; the next one is ``after`` a pause."""

    def __init__(self, error: str, after: timedelta) -> None:
        super().__init__(error)
        self.after = after


class Postponed(Exception):
    """It cannot be done before ``until``, and this was no attempt."""

    def __init__(self, until: datetime) -> None:
        super().__init__(f"Not before {until:%Y-%m-%d %H:%M:%S}.")
        self.until = until
