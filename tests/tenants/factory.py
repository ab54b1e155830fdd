"""Principals with limits, and what Redis holds of them."""

from __future__ import annotations

from dataclasses import replace

import redis

from tenants.principal import Limits, Principal

NO_LIMITS = Limits()
_PRINCIPAL = Principal(
    api_key=7,
    project=3,
    organization=5,
    organization_public_id="org_test",
    fair_share_weight=1,
    region="",
    data_residency=False,
    screening_policy="allow",
    response_cache_ttl_s=0,
    is_suspended=False,
    key_expires_at=None,
    organization_limits=NO_LIMITS,
    key_limits=NO_LIMITS,
)


def make_principal(organization: Limits = NO_LIMITS, key: Limits = NO_LIMITS) -> Principal:
    return replace(_PRINCIPAL, organization_limits=organization, key_limits=key)


def stored(client: redis.Redis) -> dict[bytes, object]:
    """Every key of limits and holds with its value."""
    readers = {
        b"string": client.get,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"hash": client.hgetall,
        b"stream": client.xrange,
    }
    return {key: readers[client.type(key)](key) for key in client.scan_iter("*")}


def let_pass(client: redis.Redis, milliseconds: float) -> None:
    """Time passes for every bucket: its state is one point in time, which moves back."""
    for key in [*client.scan_iter("limit:*:rpm"), *client.scan_iter("limit:*:tpm")]:
        arrival = float(client.get(key) or 0)
        client.set(key, f"{arrival - milliseconds:.4f}", keepttl=True)


def redis_ms(client: redis.Redis) -> float:
    seconds, microseconds = client.time()
    return seconds * 1000 + microseconds / 1000
