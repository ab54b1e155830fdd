"""The database that benchmarks of scale fill: its keys are real, and no other is touched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.db import connection

from benchmarks.seed import Population, fill
from benchmarks.server import BenchmarkError
from tenants import keys
from tenants.models import ApiKey, AuditEvent, Membership, Organization, User
from tenants.principals import get_principal
from tests.cast import build_cast

SMALL = Population(organizations=6, keys=60, big_keys=25, big_members=4, big_usage=30, big_audit=10)


@pytest.fixture
def database(transactional_db: None) -> Iterator[None]:
    """Committed, because VACUUM runs in no transaction; what was remembered is forgotten."""
    yield
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        cursor.execute(f'COMMENT ON DATABASE "{cursor.fetchone()[0]}" IS NULL')


def test_every_key_that_is_not_revoked_logs_in_as_its_organization(database: None) -> None:
    fill(SMALL)
    assert ApiKey.objects.count() == SMALL.keys
    assert ApiKey.objects.filter(organization_id=1).count() == SMALL.big_keys
    assert Organization.objects.filter(api_keys__kind="admin").distinct().count() == 6
    for number in range(1, SMALL.keys + 1):
        text = SMALL.key_text(number)
        principal = get_principal(
            keys.lookup_of(text) or "", keys.digest(text, settings.API_KEY_PEPPER)
        )
        if number % 20 == 0:
            assert principal is None
            continue
        assert principal is not None
        assert principal.organization == SMALL.organization_of_key(number)
        assert principal.kind == SMALL.kind_of_key(number)


def test_members_and_chains_are_as_the_platform_makes_them(database: None) -> None:
    fill(SMALL)
    assert Membership.objects.filter(organization_id=1).count() == 1 + SMALL.big_members
    assert User.objects.get(pk=SMALL.users).is_staff
    numbers = AuditEvent.objects.filter(organization_id=1).order_by("number")
    assert list(numbers.values_list("number", flat=True)) == list(range(1, SMALL.big_audit + 1))
    # The next rows find their numbers free.
    Organization.objects.create(name="New", plan=Organization.objects.first().plan)


def test_a_second_time_changes_nothing_and_another_size_is_refused(database: None) -> None:
    fill(SMALL)
    fill(SMALL)
    assert Organization.objects.count() == SMALL.organizations
    with pytest.raises(BenchmarkError):
        fill(Population(organizations=7, keys=70, big_keys=25))
    assert Organization.objects.count() == SMALL.organizations


def test_somebodys_own_database_is_refused(database: None) -> None:
    cast = build_cast()
    with pytest.raises(BenchmarkError):
        fill(SMALL)
    assert set(Organization.objects.values_list("pk", flat=True)) >= {cast.organization.pk}
    assert ApiKey.objects.count() < 10


def test_all_follows_from_the_seed() -> None:
    again, other = Population(seed=1), Population(seed=2)

    assert SMALL.key_text(7) == again.key_text(7) != other.key_text(7)
    assert len({SMALL.key_text(number) for number in range(1, 2_000)}) == 1_999
    for number in (1, 10, 60):
        assert keys.lookup_of(SMALL.key_text(number))
