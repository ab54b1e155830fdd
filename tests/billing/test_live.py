"""Who looks at an organization's requests hears of new ones; nobody else costs anything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.utils import timezone
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from billing import live
from billing.actions import record_usage
from billing.collector import collect_usage
from billing.usage import FIELD, STREAM, encode_report
from tests.billing.factory import Tenant, make_report

pytestmark = pytest.mark.django_db


@pytest.fixture
def redis(stream: Redis, tenant: Tenant, stranger: Tenant) -> Iterator[Redis]:
    """Nobody watches, nothing was counted."""
    organizations = (tenant.organization.pk, stranger.organization.pk)
    keys = [key(number) for number in organizations for key in (live.watch_key, live.sequence_key)]
    stream.delete(*keys)
    yield stream
    stream.delete(*keys)


def test_what_is_watched_is_counted_when_it_is_recorded(
    redis: Redis, tenant: Tenant, stranger: Tenant
) -> None:
    redis.set(live.watch_key(tenant.organization.pk), 1)
    for owner in (tenant, tenant, stranger):
        redis.xadd(STREAM, {FIELD: encode_report(make_report(owner))})
    collect_usage(redis)
    assert redis.get(live.sequence_key(tenant.organization.pk)) == b"1"
    assert not redis.exists(live.sequence_key(stranger.organization.pk))
    assert redis.ttl(live.sequence_key(tenant.organization.pk)) > 0


def test_the_layer_wakes_the_watchers_of_that_organization_alone(
    redis: Redis, tenant: Tenant, stranger: Tenant
) -> None:
    mine, theirs = tenant.organization.pk, stranger.organization.pk
    redis.set(live.watch_key(mine), 1)

    @async_to_sync
    async def heard() -> dict[str, bool]:
        layer = get_channel_layer()
        channels = {}
        for name, number in (("mine", mine), ("theirs", theirs)):
            channels[name] = await layer.new_channel()
            await layer.group_add(live.group_of(number), channels[name])
        await asyncio.to_thread(live.tell_watchers, redis, [mine, theirs])
        found = {}
        for name, channel in channels.items():
            try:
                async with asyncio.timeout(1.0 if name == "mine" else 0.3):
                    found[name] = await layer.receive(channel) == {"type": "usage.recorded"}
            except TimeoutError:
                found[name] = False
        await layer.flush()
        return found

    assert heard() == {"mine": True, "theirs": False}


def test_a_redis_that_is_away_stops_nobody_from_recording(
    tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    away = Redis(port=1, socket_connect_timeout=0.1, retry=Retry(NoBackoff(), 0))
    with caplog.at_level(logging.WARNING):
        assert live.tell_watchers(away, [tenant.organization.pk]) == 0
    assert "live.not_told" in caplog.text


def test_telling_is_bounded_and_leaves_nobody_out(
    monkeypatch: pytest.MonkeyPatch, redis: Redis
) -> None:
    told: list[set[int]] = []
    monkeypatch.setattr(live, "tell_watchers", lambda _, asked: told.append(set(asked)))
    watchers = live.Watchers(redis)
    for number in range(50):
        watchers.tell([number % 3])
    assert told == [{0}], "the first at once, the others of the same moment together"
    watchers.tell_rest()
    assert told == [{0}, {0, 1, 2}]


def test_new_requests_are_those_after_what_was_seen(tenant: Tenant, stranger: Tenant) -> None:
    now = timezone.now().timestamp()
    record_usage([make_report(tenant, started_at=now - number) for number in range(15)])
    record_usage([make_report(stranger, started_at=now)])
    assert [
        event.started_at.timestamp() for event in live.newest_requests(tenant.organization)
    ] == [pytest.approx(now - number) for number in range(live.SHOWN)]
    rows, seen = live.recorded_after(tenant.organization, 0)
    assert len(rows) == live.SHOWN
    assert live.recorded_after(tenant.organization, seen) == ([], seen)
    record_usage([make_report(tenant, started_at=now - number) for number in range(3)])
    record_usage([make_report(tenant, started_at=now - 7_200), make_report(stranger)])
    rows, seen_now = live.recorded_after(tenant.organization, seen)
    assert [round(now - event.started_at.timestamp()) for event in rows] == [0, 1, 2]
    assert seen_now > seen and {event.organization_id for event in rows} == {tenant.organization.pk}
