"""The suite's own machinery: what a test leaves behind, and which tests stay together."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import TransactionTestCase

from tenants.models import AuditEvent, User
from tests.cast import build_cast
from tests.harness.database import empty_filled_tables
from tests.harness.groups import PLATFORM, group_of


def rows_left() -> dict[str, int]:
    kept = {ContentType._meta.db_table, Permission._meta.db_table}
    tables = set(connection.introspection.django_table_names(only_existing=True)) - kept
    with connection.cursor() as cursor:
        counts = {}
        for table in tables:
            cursor.execute(f'SELECT count(*) FROM "{table}"')
            counts[table] = cursor.fetchone()[0]
    return {table: count for table, count in counts.items() if count}


@pytest.mark.django_db(transaction=True)
def test_nothing_of_a_test_is_left_and_what_django_fills_is() -> None:
    permissions = Permission.objects.count()
    assert permissions >= 4 * len(list(apps.get_app_config("tenants").get_models()))
    for _ in range(2):  # the first time in a run is Django's own way
        cast = build_cast()
        cast.staff.groups.add(Group.objects.create(name="The group"))
        assert AuditEvent.objects.exists() and len(rows_left()) >= 10
        empty_filled_tables(TransactionTestCase())
        assert rows_left() == {}
        assert Permission.objects.count() == permissions


@pytest.mark.django_db(transaction=True)
def test_a_permission_that_a_test_made_goes_with_it() -> None:
    empty_filled_tables(TransactionTestCase())
    content_type = ContentType.objects.get_for_model(User)
    Permission.objects.create(codename="fly", name="Can fly", content_type=content_type)
    empty_filled_tables(TransactionTestCase())
    assert not Permission.objects.filter(codename="fly").exists()
    assert Permission.objects.filter(codename="view_user").exists()


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("tests/api/test_chat_live.py", PLATFORM),  # by the fixture "live"
        ("tests/hostile/test_smuggled_headers.py", PLATFORM),  # by "simulated"
        ("tests/workers/test_rolling_restart.py", PLATFORM),  # by itself
        ("tests/workers/test_real_engine.py", PLATFORM),
        ("tests/workers/test_jobs_perform.py", "tests/workers/test_jobs_perform.py"),
        ("tests/api/test_matrix.py", "tests/api/test_matrix.py"),
    ],
)
def test_what_starts_a_platform_runs_in_one_process(path: str, group: str) -> None:
    assert group_of(path) == group
