"""A bound on holding locks and doing nothing: a frozen process must not hold up the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

_NAME = "idle_in_transaction_session_timeout"


@contextmanager
def bounded_idle(seconds: float) -> Iterator[None]:
    """PostgreSQL ends the session, and so the transaction, that sends nothing for this long."""
    with connection.cursor() as cursor:
        # The list of a SELECT is evaluated from left to right.
        cursor.execute(
            f"SELECT current_setting('{_NAME}'), set_config('{_NAME}', %s, true)",
            [str(int(seconds * 1000))],
        )
        before, _ = cursor.fetchone()
    yield
    # After an error the rollback puts it back, and at its end a transaction does. Only where
    # this is a part of another it would hold for the rest of that; done always, there would be
    # a moment before each commit in which a frozen process holds its locks for ever.
    if connection.savepoint_ids:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT set_config('{_NAME}', %s, true)", [before])
