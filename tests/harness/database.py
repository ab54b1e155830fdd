"""Emptying the database after a test that committed, at a price per table that it filled.

Django's own way truncates every table and then makes all content types and permissions
anew: a second for each such test, of which there are hundreds.
"""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.db import connection
from django.test import TransactionTestCase

from tenants.scope import Login, Scope, entered

# Filled by Django after each migration. Nearly no test changes them.
_OF_DJANGO = ("django_content_type", "auth_permission")
# What they held when Django had just filled them.
_as_filled: list[tuple[Any, ...]] = []


def empty_filled_tables(test: TransactionTestCase) -> None:
    """In the place of ``TransactionTestCase._fixture_teardown``; leaves what it leaves."""
    # Whatever the test was acting as: another role would not see, and so not empty, it all.
    with entered(Scope(login=Login.OWNER)), connection.cursor() as cursor:
        if [_content_of_djangos(cursor)] != _as_filled:
            _flush_as_django_does(cursor)
        elif filled := _filled_tables(cursor):
            names = ", ".join(map(connection.ops.quote_name, filled))
            cursor.execute(f"TRUNCATE {names} CASCADE")


def _flush_as_django_does(cursor: Any) -> None:
    call_command("flush", verbosity=0, interactive=False, reset_sequences=False)
    _as_filled[:] = [_content_of_djangos(cursor)]


def _filled_tables(cursor: Any) -> list[str]:
    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    cursor.execute(
        " UNION ALL ".join(
            f"SELECT '{table}' WHERE EXISTS (SELECT FROM {connection.ops.quote_name(table)})"
            for table in sorted(set(tables) - set(_OF_DJANGO))
        )
    )
    return [table for (table,) in cursor.fetchall()]


def _content_of_djangos(cursor: Any) -> tuple[Any, ...]:
    parts = ", ".join(
        f"(SELECT md5(string_agg({table}::text, ',' ORDER BY id)) FROM {table})"
        for table in _OF_DJANGO
    )
    cursor.execute(f"SELECT {parts}")
    row: tuple[Any, ...] = cursor.fetchone()
    return row
