"""The database beside an event loop: actions in a thread, and a watch on every query."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from django.db import connection
from django.db.backends.signals import connection_created

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a synchronous action, and give its thread's connection back."""

    def run() -> T:
        try:
            return action(*args, **kwargs)
        finally:
            connection.close()

    return await asyncio.to_thread(run)


@contextmanager
def watched_queries() -> Iterator[list[str]]:
    """Every SQL statement of connections that any thread opens from now on.

    ``get_principal`` closes its connection after each look-up, so its next one is
    always a new one to Django.
    """
    statements: list[str] = []

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append(sql)
        return execute(sql, params, many, context)

    def on_created(connection: Any, **_: object) -> None:
        if watch not in connection.execute_wrappers:
            connection.execute_wrappers.append(watch)

    connection_created.connect(on_created, weak=False)
    try:
        yield statements
    finally:
        connection_created.disconnect(on_created)
