"""From an Authorization header to a principal, and how fast a key stops working."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from tenants import actions, authentication, keys
from tenants.authentication import AuthenticationUnavailable, Authenticator
from tenants.errors import InvalidApiKey, OrganizationSuspended
from tenants.models import ApiKey, Plan, Project
from tests.cast import Cast, build_cast
from tests.tenants.database import in_thread, watched_queries


@pytest.fixture
def cast(transactional_db: None) -> Cast:
    """Committed, because the authenticator reads it from threads of its own."""
    return build_cast()


def bearer(key: str) -> bytes:
    return f"Bearer {key}".encode()


async def is_refused(authenticator: Authenticator, key: str) -> bool:
    try:
        await authenticator.authenticate(bearer(key))
    except (InvalidApiKey, OrganizationSuspended):
        return True
    return False


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> float:
    """Seconds until ``condition`` held."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s, "it never came true"
        await asyncio.sleep(0.005)
    return time.monotonic() - started


@asynccontextmanager
async def listening() -> AsyncIterator[Authenticator]:
    """An authenticator whose listener is connected."""
    authenticator = Authenticator()
    task = asyncio.create_task(authenticator.run_listener())
    try:
        await until(lambda: authenticator._ttl_s == authentication.CACHE_TTL_S)
        yield authenticator
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_key_is_its_principal(cast: Cast) -> None:
    principal = await Authenticator().authenticate(bearer(cast.owner_key))

    assert principal.api_key == cast.owner_api_key.pk
    assert principal.project == cast.project.pk
    assert principal.organization == cast.organization.pk
    assert principal.organization_public_id == cast.organization.public_id
    assert principal.organization_limits.requests_per_minute == 10_000
    assert principal.key_limits.requests_per_minute is None


async def test_a_cold_request_is_four_queries_and_a_warm_one_is_none(cast: Cast) -> None:
    async with listening() as authenticator:
        with watched_queries() as cold:
            await authenticator.authenticate(bearer(cast.owner_key))
        with watched_queries() as warm:
            for _ in range(50):
                await authenticator.authenticate(bearer(cast.owner_key))

    # Whose key it is; then the key with its owners, and the limits of single models.
    assert len([sql for sql in cold if "tenants_apikey" in sql]) == 2
    assert len(cold) == 4
    assert warm == []


async def test_a_flood_of_one_wrong_key_costs_one_query(cast: Cast) -> None:
    authenticator = Authenticator()
    wrong = cast.owner_key[:-1] + ("a" if cast.owner_key[-1] != "a" else "b")

    with watched_queries() as statements:
        for _ in range(20):
            assert await is_refused(authenticator, wrong)

    assert len(statements) == 1


async def test_the_right_lookup_with_a_wrong_secret_is_refused(cast: Cast) -> None:
    stolen = cast.owner_key[: len("sk-proj-") + keys.LOOKUP_LENGTH] + "0" * keys.SECRET_LENGTH

    assert await is_refused(Authenticator(), stolen)
    assert not await is_refused(Authenticator(), cast.owner_key)


async def test_a_changed_pepper_revokes_every_key(cast: Cast, settings: object) -> None:
    settings.API_KEY_PEPPER = "another pepper"  # type: ignore[attr-defined]

    assert await is_refused(Authenticator(), cast.owner_key)


async def test_a_revoked_key_is_refused(cast: Cast) -> None:
    await in_thread(actions.revoke_api_key, cast.owner_api_key, acting_user=cast.owner)

    with pytest.raises(InvalidApiKey):
        await Authenticator().authenticate(bearer(cast.owner_key))


async def test_a_key_expires_though_it_is_cached(cast: Cast) -> None:
    soon = timezone.now() + timedelta(seconds=1.5)
    await in_thread(ApiKey.objects.filter(pk=cast.owner_api_key.pk).update, expires_at=soon)
    async with listening() as authenticator:
        assert not await is_refused(authenticator, cast.owner_key)
        while timezone.now() <= soon:
            await asyncio.sleep(0.05)

        assert await is_refused(authenticator, cast.owner_key)


async def test_a_key_of_an_archived_project_is_refused(cast: Cast) -> None:
    now = timezone.now()
    await in_thread(Project.objects.filter(pk=cast.project.pk).update, archived_at=now)

    assert await is_refused(Authenticator(), cast.owner_key)


async def test_a_suspended_organization_is_told_so(cast: Cast) -> None:
    with pytest.raises(OrganizationSuspended) as refusal:
        await Authenticator().authenticate(bearer(cast.suspended_key))

    assert refusal.value.status == 403


async def test_a_revocation_reaches_a_running_gateway_within_a_second(cast: Cast) -> None:
    async with listening() as authenticator:
        assert not await is_refused(authenticator, cast.owner_key)
        await in_thread(actions.revoke_api_key, cast.owner_api_key, acting_user=cast.owner)
        committed = time.monotonic()
        while not await is_refused(authenticator, cast.owner_key):
            assert time.monotonic() - committed < 1.0, "the key worked for too long"
            await asyncio.sleep(0.002)

        assert not await is_refused(authenticator, cast.stranger_key)


async def test_a_suspension_and_its_end_reach_a_running_gateway(cast: Cast) -> None:
    async with listening() as authenticator:
        assert not await is_refused(authenticator, cast.owner_key)
        for suspended in (True, False):
            await in_thread(
                actions.set_organization_suspended,
                cast.organization,
                suspended,
                acting_user=cast.staff,
            )
            committed = time.monotonic()
            while await is_refused(authenticator, cast.owner_key) != suspended:
                assert time.monotonic() - committed < 1.0
                await asyncio.sleep(0.002)


async def test_a_changed_plan_reaches_every_organization(cast: Cast) -> None:
    def change_plan() -> None:
        Plan.objects.update(requests_per_minute=7)
        actions.notify_all_changed()

    async with listening() as authenticator:
        before = await authenticator.authenticate(bearer(cast.owner_key))
        await in_thread(change_plan)
        await until(lambda: not authenticator._known, 1.0)
        after = await authenticator.authenticate(bearer(cast.owner_key))

    assert before.organization_limits.requests_per_minute == 10_000
    assert after.organization_limits.requests_per_minute == 7


async def test_a_look_up_that_races_with_a_revocation_is_not_cached(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look-up reads the row, the key is revoked and announced, the look-up returns."""
    authenticator = Authenticator()
    read_row = authentication.get_principal

    def read_then_be_overtaken(lookup: str, digest: bytes) -> object:
        principal = read_row(lookup, digest)
        ApiKey.objects.filter(pk=cast.owner_api_key.pk).update(revoked_at=timezone.now())
        connection.close()
        loop.call_soon_threadsafe(authenticator.forget, str(cast.organization.pk))
        time.sleep(0.05)  # until the notice was heard, which is the order under test
        return principal

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(authentication, "get_principal", read_then_be_overtaken)
    assert not await is_refused(authenticator, cast.owner_key)  # it began before
    monkeypatch.setattr(authentication, "get_principal", read_row)

    assert await is_refused(authenticator, cast.owner_key)


async def test_a_refusal_that_races_with_a_restoration_is_not_remembered(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticator = Authenticator()
    archived = Project.objects.filter(pk=cast.project.pk)
    await in_thread(archived.update, archived_at=timezone.now())
    read_row = authentication.get_principal

    def read_then_be_overtaken(lookup: str, digest: bytes) -> object:
        principal = read_row(lookup, digest)
        archived.update(archived_at=None)
        connection.close()
        loop.call_soon_threadsafe(authenticator.forget, str(cast.organization.pk))
        time.sleep(0.05)
        return principal

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(authentication, "get_principal", read_then_be_overtaken)
    assert await is_refused(authenticator, cast.owner_key)
    monkeypatch.setattr(authentication, "get_principal", read_row)

    assert not await is_refused(authenticator, cast.owner_key)


def end_listeners() -> int:
    """Cut every LISTEN connection, as a restart of PostgreSQL or its network would."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
        )
        return cursor.rowcount


async def test_a_lost_listener_empties_the_cache_and_comes_back(cast: Cast) -> None:
    async with listening() as authenticator:
        await authenticator.authenticate(bearer(cast.owner_key))
        # A row changed by hand: only a flush can make the authenticator read it again.
        revoked = ApiKey.objects.filter(pk=cast.owner_api_key.pk)
        await in_thread(revoked.update, revoked_at=timezone.now())
        assert not await is_refused(authenticator, cast.owner_key)

        assert await in_thread(end_listeners) == 1
        lost = time.monotonic()
        while not await is_refused(authenticator, cast.owner_key):
            assert time.monotonic() - lost < 5
            await asyncio.sleep(0.01)

        await until(lambda: authenticator._ttl_s == authentication.CACHE_TTL_S)
        assert not await is_refused(authenticator, cast.stranger_key)
        await in_thread(actions.revoke_api_key, cast.stranger_api_key, acting_user=cast.stranger)
        await until(lambda: not authenticator._known)
        assert await is_refused(authenticator, cast.stranger_key)


async def test_without_a_listener_an_entry_lives_one_second(cast: Cast) -> None:
    authenticator = Authenticator()
    assert not await is_refused(authenticator, cast.owner_key)
    revoked = ApiKey.objects.filter(pk=cast.owner_api_key.pk)
    await in_thread(revoked.update, revoked_at=timezone.now())

    took = time.monotonic()
    while not await is_refused(authenticator, cast.owner_key):
        assert time.monotonic() - took < 5
        await asyncio.sleep(0.05)


async def test_while_the_database_is_away_known_keys_work_and_unknown_ones_are_told(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_nothing(lookup: str, digest: bytes) -> None:
        raise OperationalError("the server closed the connection")

    authenticator = Authenticator()
    authenticator._ttl_s = 0.0  # every entry must be checked again
    await authenticator.authenticate(bearer(cast.owner_key))
    monkeypatch.setattr(authentication, "get_principal", read_nothing)

    assert (await authenticator.authenticate(bearer(cast.owner_key))).api_key
    with pytest.raises(AuthenticationUnavailable) as refusal:
        await authenticator.authenticate(bearer(cast.stranger_key))
    assert refusal.value.status == 503
    monkeypatch.setattr(authentication, "UNCHECKED_TTL_S", 0.0)
    with pytest.raises(AuthenticationUnavailable):
        await authenticator.authenticate(bearer(cast.owner_key))


async def test_a_key_that_was_seen_revoked_does_not_come_back_when_the_database_goes_away(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_nothing(lookup: str, digest: bytes) -> None:
        raise OperationalError("the server closed the connection")

    authenticator = Authenticator()  # nobody listens, so no notice empties its cache
    authenticator._ttl_s = 0.0
    await authenticator.authenticate(bearer(cast.owner_key))
    await in_thread(actions.revoke_api_key, cast.owner_api_key, acting_user=cast.owner)
    assert await is_refused(authenticator, cast.owner_key)
    monkeypatch.setattr(authentication, "get_principal", read_nothing)
    monkeypatch.setattr(authentication, "REFUSED_TTL_S", 0.0)

    with pytest.raises(AuthenticationUnavailable):
        await authenticator.authenticate(bearer(cast.owner_key))
