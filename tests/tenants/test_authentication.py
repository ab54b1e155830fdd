"""From an Authorization header to a principal, and how fast a key stops working."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from tenants import actions, authentication, keys, permissions
from tenants.actions.projects import LIMIT_NAMES
from tenants.authentication import AuthenticationUnavailable, Authenticator
from tenants.errors import AddressNotAllowed, InvalidApiKey, OrganizationSuspended
from tenants.models import (
    ApiKey,
    Organization,
    Plan,
    PlanModelLimit,
    Project,
    ProjectModelLimit,
    ServiceAccount,
)
from tenants.principal import Limits, Principal
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


async def soon(
    gateways: list[Authenticator],
    key: str,
    holds: Callable[[Principal | None], bool],
    within_s: float = 1.0,
) -> None:
    """Every gateway sees the key's principal (None: refused) so within a second of now."""
    started = time.monotonic()
    for gateway in gateways:
        while not holds(await principal_or_none(gateway, key)):
            assert time.monotonic() - started < within_s, "a gateway did not hear of it in time"
            await asyncio.sleep(0.002)


async def principal_or_none(authenticator: Authenticator, key: str) -> Principal | None:
    try:
        return await authenticator.authenticate(bearer(key))
    except (InvalidApiKey, OrganizationSuspended):
        return None


@asynccontextmanager
async def several_listening(number: int = 3) -> AsyncIterator[list[Authenticator]]:
    """As many gateways as that."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(listening()) for _ in range(number)]


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


async def test_a_cold_request_is_two_queries_and_a_warm_one_is_none(cast: Cast) -> None:
    async with listening() as authenticator:
        with watched_queries() as cold:
            await authenticator.authenticate(bearer(cast.owner_key))
        with watched_queries() as warm:
            for _ in range(50):
                await authenticator.authenticate(bearer(cast.owner_key))

    # Whose key it is; then the key with its owners and all their limits.
    assert len([sql for sql in cold if "tenants_apikey" in sql]) == len(cold) == 2
    assert warm == []


async def test_a_crowd_with_one_key_looks_it_up_once(cast: Cast) -> None:
    authenticator = Authenticator()

    with watched_queries() as statements:
        found = await asyncio.gather(
            *[authenticator.authenticate(bearer(cast.owner_key)) for _ in range(50)]
        )

    assert len(statements) == 2
    assert {principal.api_key for principal in found} == {cast.owner_api_key.pk}


async def test_one_of_a_crowd_may_leave(cast: Cast) -> None:
    """Whoever began the look-up goes away; it answers for the others all the same."""
    authenticator = Authenticator()
    first, second = (
        asyncio.create_task(authenticator.authenticate(bearer(cast.owner_key))) for _ in range(2)
    )
    await asyncio.sleep(0)
    first.cancel()

    assert (await second).api_key == cast.owner_api_key.pk
    assert (await asyncio.gather(first, return_exceptions=True))[0].__class__ is (
        asyncio.CancelledError
    )


async def test_what_a_principal_holds(cast: Cast) -> None:
    """Every limit of every level, scopes, lists: nothing is lost on the way from the rows."""

    def arrange() -> None:
        limits = {name: number for number, name in enumerate(LIMIT_NAMES, 1)}
        Plan.objects.update(**{name: 100 + value for name, value in limits.items()})
        Plan.objects.update(allows_custom_limits=True)
        Organization.objects.filter(pk=cast.organization.pk).update(
            requests_per_day=9, is_prepaid=True, credit_granted_micros=10**13, region="eu"
        )
        Project.objects.filter(pk=cast.project.pk).update(
            **{name: 200 + value for name, value in limits.items()},
            allowed_models=["a", "b"],
            denied_models=["c"],
        )
        ApiKey.objects.filter(pk=cast.owner_api_key.pk).update(
            **{name: 300 + value for name, value in limits.items()},
            scopes=["models.read"],
            allowed_models=["b"],
            allowed_networks=["10.0.0.0/8"],
        )
        PlanModelLimit.objects.create(
            plan=cast.organization.plan, model="a", requests_per_minute=1, monthly_tokens=0
        )
        ProjectModelLimit.objects.create(
            organization=cast.organization, project=cast.project, model="b", tokens_per_day=10**12
        )

    await in_thread(arrange)
    held = await Authenticator().authenticate(bearer(cast.owner_key), "10.1.1.1")

    numbers = {name: number for number, name in enumerate(LIMIT_NAMES, 1)}
    for limits, base in ((held.project_limits, 200), (held.key_limits, 300)):
        assert {name: getattr(limits, name) - base for name in LIMIT_NAMES} == numbers
    assert held.organization_limits.requests_per_day == 9  # its own, in place of the plan's
    assert held.organization_limits.monthly_budget_micros == 100 + len(LIMIT_NAMES)
    assert held.credit_granted_micros == 10**13
    assert held.region == "eu"
    assert held.scopes == {"models.read"}
    assert held.allowed_networks == ("10.0.0.0/8",)
    assert set(held.allowed_models) == {frozenset("b"), frozenset("ab")}
    assert held.denied_models == {"c"}
    assert held.organization_model_limits == {"a": Limits(requests_per_minute=1, monthly_tokens=0)}
    assert held.project_model_limits == {"b": Limits(tokens_per_day=10**12)}


async def test_limits_of_its_own_count_only_where_the_plan_allows_them(cast: Cast) -> None:
    organization = Organization.objects.filter(pk=cast.organization.pk)
    await in_thread(organization.update, requests_per_minute=10**6)

    held = await Authenticator().authenticate(bearer(cast.owner_key))
    assert held.organization_limits.requests_per_minute == 10_000


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


# --- Changes reach every running gateway ----------------------------------------------------


async def test_a_revocation_reaches_every_gateway_within_a_second(cast: Cast) -> None:
    async with several_listening() as gateways:
        for gateway in gateways:
            assert not await is_refused(gateway, cast.owner_key)
        await in_thread(actions.revoke_api_key, cast.owner_api_key, acting_user=cast.owner)
        await soon(gateways, cast.owner_key, lambda principal: principal is None)

        for gateway in gateways:
            assert not await is_refused(gateway, cast.stranger_key)


async def test_a_suspension_and_its_end_reach_every_gateway(cast: Cast) -> None:
    async with several_listening() as gateways:
        for gateway in gateways:
            assert not await is_refused(gateway, cast.owner_key)
        for suspended in (True, False):
            await in_thread(
                actions.set_organization_suspended,
                cast.organization,
                suspended,
                acting_user=cast.staff,
            )
            await soon(gateways, cast.owner_key, lambda p, gone=suspended: (p is None) == gone)


async def test_a_suspended_key_is_refused_everywhere_and_restored(cast: Cast) -> None:
    async with several_listening() as gateways:
        for gateway in gateways:
            assert not await is_refused(gateway, cast.owner_key)
        for suspended in (True, False):
            await in_thread(
                actions.set_api_key_suspended,
                cast.owner_api_key,
                suspended,
                reason="leaked",
                acting_user=cast.owner,
            )
            await soon(gateways, cast.owner_key, lambda p, gone=suspended: (p is None) == gone)


async def test_another_plan_and_other_limits_of_a_key_reach_every_gateway(cast: Cast) -> None:
    def change_plan() -> None:
        plan = Plan.objects.create(slug="other", name="Other", requests_per_minute=3)
        actions.update_organization(cast.organization, {"plan": plan}, acting_user=cast.staff)

    def change_key() -> None:
        terms = actions.KeyTerms(limits={"tokens_per_minute": 11})
        actions.update_api_key(cast.owner_api_key, terms=terms, acting_user=cast.owner)

    async with several_listening() as gateways:
        for gateway in gateways:
            assert await principal_or_none(gateway, cast.owner_key)
        await in_thread(change_plan)
        await soon(
            gateways, cast.owner_key, lambda p: p.organization_limits.requests_per_minute == 3
        )
        await in_thread(change_key)
        await soon(gateways, cast.owner_key, lambda p: p.key_limits.tokens_per_minute == 11)


async def test_a_change_of_one_organization_costs_the_others_no_query(cast: Cast) -> None:
    async with listening() as authenticator:
        await authenticator.authenticate(bearer(cast.stranger_key))
        await in_thread(actions.revoke_api_key, cast.owner_api_key, acting_user=cast.owner)
        await soon([authenticator], cast.owner_key, lambda principal: principal is None)
        with watched_queries() as statements:
            await authenticator.authenticate(bearer(cast.stranger_key))

    assert statements == []


# --- Rotation ---------------------------------------------------------------------------------


async def test_both_secrets_of_a_rotated_key_work_until_the_overlap_ends(cast: Cast) -> None:
    overlap = timedelta(seconds=1.5)
    async with several_listening() as gateways:
        for gateway in gateways:
            assert await principal_or_none(gateway, cast.owner_key)
        key, secret = await in_thread(
            actions.rotate_api_key, cast.owner_api_key, overlap=overlap, acting_user=cast.owner
        )
        ends = key.previous_expires_at.timestamp()
        # The one before is known again as what it is now: something that ends.
        await soon(gateways, cast.owner_key, lambda p: p is not None and p.key_expires_at == ends)
        for gateway in gateways:
            fresh = await principal_or_none(gateway, secret)
            assert fresh is not None and fresh.key_expires_at is None
            assert fresh.api_key == cast.owner_api_key.pk
        while time.time() <= ends:
            await asyncio.sleep(0.05)
        for gateway in [*gateways, Authenticator()]:
            assert await is_refused(gateway, cast.owner_key)
            assert not await is_refused(gateway, secret)


async def test_a_second_rotation_ends_the_first_secret_at_once(cast: Cast) -> None:
    async with listening() as authenticator:
        key, second = await in_thread(
            actions.rotate_api_key, cast.owner_api_key, acting_user=cast.owner
        )
        assert await principal_or_none(authenticator, cast.owner_key)
        _, third = await in_thread(actions.rotate_api_key, key, acting_user=cast.owner)
        await soon([authenticator], cast.owner_key, lambda principal: principal is None)

        assert not await is_refused(authenticator, second)
        assert not await is_refused(authenticator, third)


async def test_a_rotation_without_overlap_ends_the_old_secret_now(cast: Cast) -> None:
    async with listening() as authenticator:
        assert await principal_or_none(authenticator, cast.owner_key)
        _, secret = await in_thread(
            actions.rotate_api_key,
            cast.owner_api_key,
            overlap=timedelta(0),
            acting_user=cast.owner,
        )
        await soon([authenticator], cast.owner_key, lambda principal: principal is None)
        assert not await is_refused(authenticator, secret)


async def test_the_keys_expiry_ends_both_secrets_if_it_comes_first(cast: Cast) -> None:
    ends = timezone.now() + timedelta(hours=1)
    await in_thread(
        actions.update_api_key,
        cast.owner_api_key,
        terms=actions.KeyTerms(expires_at=ends),
        acting_user=cast.owner,
    )
    key = await in_thread(ApiKey.objects.get, pk=cast.owner_api_key.pk)
    _, secret = await in_thread(actions.rotate_api_key, key, acting_user=cast.owner)

    for text in (cast.owner_key, secret):
        principal = await Authenticator().authenticate(bearer(text))
        assert principal.key_expires_at == ends.timestamp()


# --- Other kinds ------------------------------------------------------------------------------


async def test_a_deleted_service_accounts_key_is_refused(cast: Cast) -> None:
    def make() -> tuple[ServiceAccount, str]:
        account = actions.create_service_account(cast.project, "robot", acting_user=cast.owner)
        return account, actions.create_api_key(account, "its key", acting_user=cast.owner)[1]

    account, secret = await in_thread(make)
    async with listening() as authenticator:
        principal = await authenticator.authenticate(bearer(secret))
        assert (principal.kind, principal.project) == ("service_account", cast.project.pk)
        await in_thread(actions.delete_service_account, account, acting_user=cast.owner)
        await soon([authenticator], secret, lambda principal: principal is None)


async def test_a_key_that_was_made_while_its_account_was_deleted_is_refused(cast: Cast) -> None:
    def make() -> str:
        account = actions.create_service_account(cast.project, "robot", acting_user=cast.owner)
        secret = actions.create_api_key(account, "its key", acting_user=cast.owner)[1]
        ServiceAccount.objects.update(deleted_at=timezone.now())
        return secret

    assert await is_refused(Authenticator(), await in_thread(make))


async def test_an_admin_key_is_known_and_may_infer_nothing(cast: Cast) -> None:
    _, secret = await in_thread(
        actions.create_api_key, cast.organization, "admin", acting_user=cast.owner
    )
    principal = await Authenticator().authenticate(bearer(secret))

    assert (principal.kind, principal.project) == ("admin", 0)
    assert not any(principal.may(scope) for scope in permissions.KEY_SCOPES)


@pytest.mark.parametrize(
    ("address", "is_allowed"),
    [
        ("203.0.113.9", True),
        ("::ffff:203.0.113.9", True),  # over an IPv6 socket
        ("2001:db8::1", True),
        ("203.0.114.9", False),
        ("2001:db9::1", False),
        ("not an address", False),
        (None, False),
    ],
)
async def test_a_key_with_networks_works_from_there_only(
    cast: Cast, address: str | None, is_allowed: bool
) -> None:
    networks = ["203.0.113.0/24", "2001:db8::/32"]
    key = ApiKey.objects.filter(pk=cast.owner_api_key.pk)
    await in_thread(key.update, allowed_networks=networks)
    authenticator = Authenticator()

    for _ in range(2):  # also when it is known already
        if is_allowed:
            assert await authenticator.authenticate(bearer(cast.owner_key), address)
        else:
            with pytest.raises(AddressNotAllowed) as refusal:
                await authenticator.authenticate(bearer(cast.owner_key), address)
            assert refusal.value.status == 403


async def test_a_changed_plan_reaches_every_organization(cast: Cast) -> None:
    def change_plan() -> None:
        Plan.objects.update(requests_per_minute=7)
        actions.notify_all_changed()

    async with listening() as authenticator:
        before = await authenticator.authenticate(bearer(cast.owner_key))
        await in_thread(change_plan)
        await soon(
            [authenticator],
            cast.owner_key,
            lambda principal: principal.organization_limits.requests_per_minute == 7,
        )

    assert before.organization_limits.requests_per_minute == 10_000


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
        await soon([authenticator], cast.stranger_key, lambda principal: principal is None)


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
    with pytest.raises(InvalidApiKey):  # which is none, with and without a database
        await authenticator.authenticate(bearer("sk-proj-malformed"))
    monkeypatch.setattr(authentication, "UNCHECKED_TTL_S", 0.0)
    with pytest.raises(AuthenticationUnavailable):
        await authenticator.authenticate(bearer(cast.owner_key))


async def test_a_database_that_hangs_delays_known_keys_no_further(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One caller in a while finds out that it hangs; the others do not wait for it."""
    released = threading.Event()
    asked: list[str] = []

    def hang(lookup: str, digest: bytes) -> None:
        asked.append(lookup)
        released.wait(20)
        raise OperationalError("at last")

    authenticator = Authenticator()
    authenticator._ttl_s = 0.0
    await authenticator.authenticate(bearer(cast.owner_key))
    monkeypatch.setattr(authentication, "get_principal", hang)
    monkeypatch.setattr(authentication, "LOOK_UP_TIMEOUT_S", 0.3)
    try:
        assert await authenticator.authenticate(bearer(cast.owner_key))
        started = time.monotonic()
        for _ in range(200):
            assert await authenticator.authenticate(bearer(cast.owner_key))
        with pytest.raises(AuthenticationUnavailable):
            await authenticator.authenticate(bearer(cast.stranger_key))
        assert time.monotonic() - started < 0.3
        assert len(asked) == 1
    finally:
        released.set()


async def test_a_database_that_comes_back_is_asked_again(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_row = authentication.get_principal

    def read_nothing(lookup: str, digest: bytes) -> None:
        raise OperationalError("the server closed the connection")

    authenticator = Authenticator()
    monkeypatch.setattr(authentication, "AWAY_RETRY_S", 0.05)
    monkeypatch.setattr(authentication, "get_principal", read_nothing)
    with pytest.raises(AuthenticationUnavailable):
        await authenticator.authenticate(bearer(cast.owner_key))
    monkeypatch.setattr(authentication, "get_principal", read_row)
    await asyncio.sleep(0.06)

    assert await authenticator.authenticate(bearer(cast.owner_key))
    assert await authenticator.authenticate(bearer(cast.stranger_key))


async def test_a_flood_of_unknown_keys_is_told_to_come_back(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its look-ups do not queue without end, and known keys do not wait behind them."""
    released = threading.Event()
    read_row = authentication.get_principal

    def read_slowly(lookup: str, digest: bytes) -> object:
        released.wait(20)
        return read_row(lookup, digest)

    authenticator = Authenticator()
    authenticator._ttl_s = 60.0
    await authenticator.authenticate(bearer(cast.owner_key))
    monkeypatch.setattr(authentication, "LOOK_UPS_AT_ONCE", 10)
    monkeypatch.setattr(authentication, "get_principal", read_slowly)
    flood = [
        asyncio.create_task(authenticator.authenticate(bearer(keys.new_secret("x").text)))
        for _ in range(50)
    ]
    try:
        await asyncio.sleep(0)
        assert await authenticator.authenticate(bearer(cast.owner_key))
    finally:
        released.set()
    outcomes = await asyncio.gather(*flood, return_exceptions=True)

    kinds = Counter(type(outcome) for outcome in outcomes)
    assert kinds == {AuthenticationUnavailable: 40, InvalidApiKey: 10}


async def test_a_key_that_was_announced_does_not_work_from_memory(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its organization changed and the database went away before anybody could look."""

    def read_nothing(lookup: str, digest: bytes) -> None:
        raise OperationalError("the server closed the connection")

    authenticator = Authenticator()
    await authenticator.authenticate(bearer(cast.owner_key))
    authenticator.forget(str(cast.organization.pk))
    monkeypatch.setattr(authentication, "get_principal", read_nothing)

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
