"""Principals with limits, what Redis holds of them, and a ledger that admission may ask."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

import redis

from tenants.admission import Spent, SpentQuery
from tenants.principal import NO_LIMITS, Limits, Principal

MODEL = "tiny"
_STATE = struct.Struct("<17d")  # as in state.lua
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


def make_principal(
    organization: Limits = NO_LIMITS,
    key: Limits = NO_LIMITS,
    *,
    project: Limits = NO_LIMITS,
    organization_models: Mapping[str, Limits] | None = None,
    project_models: Mapping[str, Limits] | None = None,
    credit: int | None = None,
) -> Principal:
    return replace(
        _PRINCIPAL,
        organization_limits=organization,
        key_limits=key,
        project_limits=project,
        organization_model_limits=organization_models or {},
        project_model_limits=project_models or {},
        credit_granted_micros=credit,
    )


class Ledger:
    """``ReadSpent`` with an answer for each subject: nothing was used, unless a test says so."""

    def __init__(self) -> None:
        self.spent = Spent(0, 0, 0)
        self.asked: list[SpentQuery] = []

    async def __call__(self, query: SpentQuery) -> Spent:
        self.asked.append(query)
        return self.spent


@dataclass
class State:
    """The fields of state.lua, by its names."""

    seen: float
    rpm: float
    rph: float
    rpd: float
    tpm: float
    tpd: float
    slot: float
    running: float
    earlier: float
    month: float
    tokens: float
    tokens_held: float
    micros: float
    micros_held: float
    life: float
    life_held: float
    doubts: float

    @property
    def in_flight(self) -> int:
        return int(self.running + self.earlier)


def state_of(client: redis.Redis, subject: str = "o5") -> State:
    """A subject's whole state, as it was when it was last written."""
    return State(*_STATE.unpack(client.get(f"limit:{subject}")))


def change_state(client: redis.Redis, subject: str = "o5", **fields: float) -> None:
    state = replace(state_of(client, subject), **fields)
    client.set(f"limit:{subject}", _STATE.pack(*vars(state).values()), keepttl=True)


def subjects(client: redis.Redis) -> list[str]:
    return sorted(key.decode().removeprefix("limit:") for key in client.scan_iter("limit:*"))


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
    """Time passes for every bucket: it was last looked at so much earlier."""
    for subject in subjects(client):
        change_state(client, subject, seen=state_of(client, subject).seen - milliseconds)


def redis_ms(client: redis.Redis) -> float:
    seconds, microseconds = client.time()
    return seconds * 1000 + microseconds / 1000
