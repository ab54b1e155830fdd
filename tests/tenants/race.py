"""The same moment for several calls: what each did, by its own connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from django.db import connection

from tenants.errors import TenantError


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What the calls returned, or the TenantError that they raised, in their order."""
    start = threading.Barrier(len(calls))
    outcomes: list[Any] = [None] * len(calls)

    def run(number: int, call: Callable[[], Any]) -> None:
        try:
            start.wait()
            outcomes[number] = call()
        except Exception as error:
            outcomes[number] = error
        finally:
            connection.close()

    threads = [
        threading.Thread(target=run, args=(number, call)) for number, call in enumerate(calls)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    _check(outcomes)
    return outcomes


def refused(outcomes: Sequence[Any]) -> list[TenantError]:
    return [outcome for outcome in outcomes if isinstance(outcome, TenantError)]


def _check(outcomes: Sequence[Any]) -> None:
    """Anything but a refusal, such as a deadlock, fails the test."""
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, TenantError):
            raise outcome
