"""The socket of live requests: who may look, what they are told, and when it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.layers import get_channel_layer
from django.conf import settings
from django.test import Client
from django.utils import timezone
from redis import Redis

from billing import live
from billing.actions import record_usage
from portal import live_socket
from portal.live_urls import sockets
from tenants.models import Membership, Organization, User
from tests.billing.factory import Tenant, make_report
from tests.cast import Cast
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db(transaction=True)

ORIGIN = "http://testserver"
PATIENCE_S = 4


@pytest.fixture
def redis() -> Iterator[Redis]:
    client = Redis.from_url(settings.REDIS_URL)
    yield client
    for key in client.scan_iter("live.*"):
        client.delete(key)
    client.close()


class Socket(ApplicationCommunicator):
    """A client's end. Channels' own helper wants a server that nothing else here needs."""

    async def connect(self) -> tuple[bool, int]:
        await self.send_input({"type": "websocket.connect"})
        answer = await self.receive_output(PATIENCE_S)
        return answer["type"] == "websocket.accept", answer.get("code", 0)

    async def disconnect(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(PATIENCE_S)


def communicator(
    client: Client | None, organization: str, *, origin: str = ORIGIN, path: str = "live/"
) -> Socket:
    headers = [(b"host", b"testserver"), (b"origin", origin.encode())]
    if client is not None:
        cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
        headers.append((b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie}".encode()))
    scope = {"type": "websocket", "path": f"/o/{organization}/{path}", "query_string": b"",
             "headers": headers, "subprotocols": []}  # fmt: skip
    return Socket(sockets, scope)


async def hear(socket: Socket) -> dict[str, Any]:
    told = await socket.receive_output(PATIENCE_S)
    return dict(json.loads(told["text"]))


@asynccontextmanager
async def looking(
    client: Client, organization: Organization
) -> AsyncIterator[tuple[Socket, dict[str, Any]]]:
    socket = communicator(client, organization.public_id)
    is_open, _ = await socket.connect()
    assert is_open
    try:
        yield socket, await hear(socket)
    finally:
        await socket.disconnect()
        await get_channel_layer().flush()


def record(redis: Redis, tenant: Tenant, count: int = 1, **changes: Any) -> list[str]:
    """As the collector does."""
    now = timezone.now().timestamp()
    reports = [make_report(tenant, started_at=now, **changes) for _ in range(count)]
    record_usage(reports)
    live.tell_watchers(redis, [tenant.organization.pk])
    return [report.request_id for report in reports]


def mine(cast: Cast) -> Tenant:
    return Tenant(cast.organization, cast.project, cast.owner_api_key)


def theirs(cast: Cast) -> Tenant:
    return Tenant(cast.other_organization, cast.other_project, cast.stranger_api_key)


def refused(socket: Socket) -> int:
    is_open, code = async_to_sync(socket.connect)()
    assert not is_open
    return code


def test_who_may_not_look_is_refused_before_the_socket_opens(cast: Cast, redis: Redis) -> None:
    public_id = cast.organization.public_id
    strangers: dict[str, Callable[[], Socket]] = {
        "of another organization": lambda: communicator(log_in(cast.stranger), public_id),
        "staff are no members": lambda: communicator(log_in(cast.staff), public_id),
        "nobody": lambda: communicator(None, public_id),
        "of no organization": lambda: communicator(log_in(cast.owner), "org_absent"),
        "another site's": lambda: communicator(
            log_in(cast.owner), public_id, origin="https://evil.example"
        ),
        "a program": lambda: communicator(log_in(cast.owner), public_id, origin=""),
    }
    before = set(redis.scan_iter("live.*"))  # of other tests, until they are forgotten
    for who, made in strangers.items():
        assert refused(made()) == live_socket.REFUSED_CLOSE, who
    assert refused(communicator(log_in(cast.owner), public_id, path="else/")) == 4404
    assert set(redis.scan_iter("live.*")) <= before, "nothing is watched for them"


def test_a_second_factor_is_asked_for_here_too(cast: Cast) -> None:
    Organization.objects.filter(pk=cast.organization.pk).update(requires_mfa=True)
    socket = communicator(log_in(cast.viewer), cast.organization.public_id)
    assert refused(socket) == live_socket.REFUSED_CLOSE


def test_requests_are_told_as_they_are_recorded_and_only_ones_own(cast: Cast, redis: Redis) -> None:
    User.objects.filter(pk=cast.viewer.pk).update(language="de")
    client = log_in(cast.viewer)

    @async_to_sync
    async def told() -> None:
        async with looking(client, cast.organization) as (socket, hello):
            assert hello == {"type": "hello", "sequence": 0, "running": 0}
            redis.set(live.watch_key(cast.other_organization.pk), 1)
            await sync_to_async(record)(redis, theirs(cast), 3)
            assert await socket.receive_nothing(timeout=0.4)
            ids = await sync_to_async(record)(redis, mine(cast), 2, prompt_tokens=12_345)
            news = await hear(socket)
            assert (news["before"], news["sequence"], news["running"]) == (0, 1, 0)
            assert all(each in news["html"] for each in ids)
            assert news["html"].count("<tr") == 2
            assert "12.345" in news["html"], "as the viewer's language writes it"
            more = await sync_to_async(record)(redis, mine(cast))
            again = await hear(socket)
            assert (again["before"], again["sequence"]) == (1, 2)
            assert more[0] in again["html"] and again["html"].count("<tr") == 1

    told()


def test_a_lost_wake_up_is_made_good_and_many_are_one(
    cast: Cast, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = log_in(cast.member)
    monkeypatch.setattr(live, "_wake", _nobody)

    @async_to_sync
    async def told() -> dict[str, Any]:
        async with looking(client, cast.organization) as (socket, _):
            await sync_to_async(record)(redis, mine(cast))
            await sync_to_async(record)(redis, mine(cast))
            return await hear(socket)

    news = told()
    assert (news["before"], news["sequence"]) == (0, 2)
    assert news["html"].count("<tr") == 2


async def _nobody(_: Any) -> None:
    """A channel layer that loses everything, as its contract allows."""


def test_messages_are_at_most_four_a_second(cast: Cast, redis: Redis) -> None:
    client = log_in(cast.owner)

    @async_to_sync
    async def count() -> tuple[int, int]:
        async with looking(client, cast.organization) as (socket, _):
            sequence, messages = 0, 0
            for _ in range(20):
                redis.incr(live.sequence_key(cast.organization.pk))
                await get_channel_layer().group_send(
                    live.group_of(cast.organization.pk), {"type": "usage.recorded"}
                )
                await asyncio.sleep(0.05)
            while sequence < 20:
                news = await hear(socket)
                assert news["before"] == sequence
                sequence, messages = news["sequence"], messages + 1
            return sequence, messages

    sequence, messages = count()
    assert sequence == 20 and messages <= 6


@pytest.mark.parametrize("loss", ["membership", "session"])
def test_whoever_may_not_look_any_more_is_cut_off(
    cast: Cast, redis: Redis, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    monkeypatch.setattr(live_socket, "CHECKED_EVERY_S", 0.0)
    monkeypatch.setattr(live_socket, "LOOK_S", 0.1)
    client = log_in(cast.viewer)

    def lose() -> None:
        if loss == "session":
            client.logout()
        else:
            Membership.objects.filter(user=cast.viewer).delete()

    @async_to_sync
    async def end() -> dict[str, Any]:
        async with looking(client, cast.organization) as (socket, _):
            await sync_to_async(lose)()
            return dict(await socket.receive_output(timeout=PATIENCE_S))

    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    assert cookie
    assert end() == {"type": "websocket.close", "code": live_socket.REFUSED_CLOSE}


def test_a_redis_that_is_away_ends_the_socket_at_once(cast: Cast, settings: Any) -> None:
    client = log_in(cast.viewer)
    settings.REDIS_URL, settings.REDIS_TIMEOUT_S = "redis://127.0.0.1:1/0", 0.2

    @async_to_sync
    async def end() -> dict[str, Any]:
        socket = communicator(client, cast.organization.public_id)
        await socket.connect()
        ended = dict(await socket.receive_output(timeout=PATIENCE_S))
        await socket.disconnect()
        await get_channel_layer().flush()
        return ended

    assert end() == {"type": "websocket.close", "code": live_socket.AWAY_CLOSE}


def test_sockets_of_a_process_are_bounded(
    cast: Cast, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_socket, "MOST_SOCKETS", 1)
    client = log_in(cast.viewer)

    @async_to_sync
    async def second() -> tuple[bool, int]:
        async with looking(client, cast.organization):
            is_open, code = await communicator(client, cast.organization.public_id).connect()
            return is_open, code

    assert second() == (False, live_socket.FULL_CLOSE)
    monkeypatch.undo()
    assert not live_socket._open, "a closed socket makes room"
