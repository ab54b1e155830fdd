"""A key that is used from a new address is noticed once, and never holds up a request."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
from django.db import DatabaseError, connection

from tenants import key_addresses, scope
from tenants.authentication import Authenticator
from tenants.key_addresses import KeyAddresses, record_uses
from tenants.models import ApiKey, ApiKeyAddress, AuditEvent
from tests.cast import Cast, build_cast
from tests.tenants.database import in_thread
from tests.tenants.factory import make_principal


@pytest.fixture(autouse=True)
def one_connection(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's transaction must outlive ``record_uses``, which gives its connection back."""
    if "cast" in request.fixturenames:
        monkeypatch.setattr(connection, "close", lambda: None)


def use(key: ApiKey, address: str) -> tuple[int, int, str]:
    return (key.organization_id, key.pk, address)


def events() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(action="api_key.used_from_new_address").order_by("pk"))


def test_the_first_address_is_no_news_and_the_second_is(cast: Cast) -> None:
    key = cast.owner_api_key
    assert record_uses([use(key, "203.0.113.1")] * 2) == 1
    assert not events()
    assert record_uses([use(key, "203.0.113.2"), use(key, "203.0.113.1")]) == 1

    (event,) = events()
    assert (event.object_id, event.address) == (key.public_id, "203.0.113.2")
    assert event.organization == cast.organization
    assert ApiKeyAddress.objects.filter(api_key=key).count() == 2


def test_two_keys_do_not_share_addresses(cast: Cast) -> None:
    record_uses([use(cast.owner_api_key, "203.0.113.1"), use(cast.stranger_api_key, "203.0.113.1")])
    assert not events() and ApiKeyAddress.objects.count() == 2


@pytest.mark.parametrize("address", ["", "unix:", "not an address", "fe80::1%eth0", "2001:DB8::1"])
def test_an_odd_address_holds_up_no_other(cast: Cast, address: str) -> None:
    record_uses([use(cast.owner_api_key, address), use(cast.stranger_api_key, "203.0.113.1")])
    assert ApiKeyAddress.objects.filter(api_key=cast.stranger_api_key).exists()


def test_a_key_that_is_gone_or_another_organizations_is_passed_over(cast: Cast) -> None:
    stray = (cast.other_organization.pk, cast.owner_api_key.pk, "203.0.113.1")
    assert record_uses([stray, (cast.organization.pk, 2**40, "203.0.113.1")]) == 0


def test_a_pool_of_addresses_is_noticed_up_to_a_bound(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_addresses, "MOST_OF_A_KEY", 3)
    assert record_uses(use(cast.owner_api_key, f"203.0.113.{n}") for n in range(9)) == 3
    assert len(events()) == 2


def test_the_web_role_is_enough(cast: Cast) -> None:
    with scope.entered(scope.Scope()):
        assert record_uses([use(cast.owner_api_key, f"203.0.113.{n}") for n in (1, 2)]) == 2
    assert len(events()) == 1


def test_what_is_noted_is_bounded_and_noted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_addresses, "MOST_WAITING", 2)
    addresses, principal = KeyAddresses(), make_principal()
    for number in (1, 1, 2, 3):
        addresses.note(principal, f"203.0.113.{number}")
    assert [address for *_, address in addresses._waiting] == ["203.0.113.1", "203.0.113.2"]
    # What did not fit was not remembered: its next use is noted.
    uses, addresses._waiting = addresses._waiting, []
    addresses.note(principal, "203.0.113.3")
    addresses._wait_again(uses)
    assert len(addresses._waiting) == 2
    addresses._waiting = []
    addresses.note(principal, "203.0.113.3")
    assert len(addresses._waiting) == 1


async def test_a_lost_database_is_tried_again_and_a_fault_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[object] = [DatabaseError("gone"), ZeroDivisionError("bug"), "written"]
    seen: list[list[object]] = []

    def write(uses: list[object]) -> int:
        seen.append(list(uses))
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return 1

    monkeypatch.setattr(key_addresses, "WRITE_EVERY_S", 0.001)
    monkeypatch.setattr(key_addresses, "record_uses", write)
    addresses, principal = KeyAddresses(), make_principal()
    addresses.note(principal, "203.0.113.1")
    task = asyncio.create_task(addresses.run())
    async with asyncio.timeout(10):
        while len(seen) < 2:
            await asyncio.sleep(0.001)
        addresses.note(replace(principal, api_key=9), "203.0.113.1")
        while len(seen) < 3:
            await asyncio.sleep(0.001)
    task.cancel()
    assert seen[0] == seen[1] == [(5, 7, "203.0.113.1")] and seen[2] == [(5, 9, "203.0.113.1")]


@pytest.mark.django_db(transaction=True)
async def test_a_gateway_writes_what_its_authenticator_saw(
    settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_addresses, "WRITE_EVERY_S", 0.01)
    cast = await in_thread(build_cast)
    authenticator = Authenticator()
    task = asyncio.create_task(authenticator.addresses.run())
    for address in ("203.0.113.1", "203.0.113.2", "203.0.113.1"):
        header = f"Bearer {cast.owner_key}".encode()
        await authenticator.authenticate(header, address)
    async with asyncio.timeout(20):
        while await in_thread(lambda: ApiKeyAddress.objects.count()) < 2:
            await asyncio.sleep(0.01)
    task.cancel()
    assert await in_thread(lambda: len(events())) == 1


@pytest.mark.django_db(transaction=True)
def test_gateways_at_once_record_a_place_once(settings: object) -> None:
    cast = build_cast()
    record_uses([use(cast.owner_api_key, "203.0.113.1")])
    start, counts = threading.Barrier(6), []

    def work() -> None:
        start.wait()
        counts.append(record_uses([use(cast.owner_api_key, "203.0.113.2")]))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == [0, 0, 0, 0, 0, 1]
    assert len(events()) == 1
