"""Who pays for an answer with a key, as a gateway judges its own report."""

from __future__ import annotations

import asyncio
import dataclasses

import msgspec
import pytest
from django.conf import settings
from redis import Redis

from api.controls import controls_of
from api.kept.claims import ClaimedBill, claim, fingerprint_of, is_final
from billing.usage import UsageReport
from inference.errors import InvalidRequest
from inference.stream_log import StreamLogs
from tenants.errors import IdempotencyKeyReused, RequestInFlight
from tenants.redis_link import RedisLink
from tests.tenants.factory import make_principal

PATH = "/v1/chat/completions"
REPORT = UsageReport(
    "r", 1, 2, 3, "tiny", "chat.completions", "completed", "gateway", 10, 4, 20, 0.0, None, 5
)


def judged(
    valkey: Redis, *, status: str = "completed", ending: str = "", paid: bool = False
) -> int:
    """The output tokens that are billed."""

    async def run() -> int:
        link = RedisLink(settings.REDIS_URL, timeout_s=5, name="test")
        _, writer = await claim(StreamLogs(link), make_principal(), b"k", "f", "log", PATH)
        assert writer is not None
        if ending == "lost":
            valkey.hset("log:log:meta", "state", "lost")
        elif ending == "gone":
            valkey.delete("log:log:meta")
        bill = ClaimedBill(writer, is_paid=paid)
        report = await bill.judge(msgspec.structs.replace(REPORT, status=status))
        assert (report.prompt_tokens, report.cached_tokens) in ((10, 4), (0, 0))
        await link.aclose()
        return report.completion_tokens

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "ending", "paid", "billed"),
    [
        ("completed", "", False, 20),
        ("blocked", "", False, 20),
        ("cancelled", "", False, 0),
        ("failed", "", False, 0),
        ("completed", "", True, 0),
        ("completed", "lost", False, 0),
        # Redis lost its data: nobody else can have the key's answer, and this one was given.
        ("completed", "gone", False, 20),
    ],
)
def test_what_is_billed(valkey: Redis, status: str, ending: str, paid: bool, billed: int) -> None:
    assert judged(valkey, status=status, ending=ending, paid=paid) == billed


def test_a_claim_is_its_keys_own(valkey: Redis) -> None:
    async def run() -> None:
        link = RedisLink(settings.REDIS_URL, timeout_s=5, name="test")
        logs, principal = StreamLogs(link), make_principal()
        await claim(logs, principal, b"k", "f", "one", PATH)
        with pytest.raises(RequestInFlight):
            await claim(logs, principal, b"k", "f", "two", PATH)
        with pytest.raises(IdempotencyKeyReused):
            await claim(logs, principal, b"k", "g", "two", PATH)
        for other in (
            dataclasses.replace(principal, api_key=99),
            dataclasses.replace(principal, project=99),
            dataclasses.replace(principal, organization=99),
        ):
            found, writer = await claim(logs, other, b"k", "f", f"log{id(other)}", PATH)
            assert found.outcome == "mine" and writer is not None
        await link.aclose()

    asyncio.run(run())


def test_a_key_that_looks_like_a_place_in_redis_is_only_a_text(valkey: Redis) -> None:
    async def run() -> None:
        link = RedisLink(settings.REDIS_URL, timeout_s=5, name="test")
        key = b"*:log:{a}:meta'..redis.call('FLUSHALL')"
        found, _ = await claim(StreamLogs(link), make_principal(), key, "f", "log", PATH)
        assert found.outcome == "mine"
        await link.aclose()

    asyncio.run(run())
    assert all(b"FLUSHALL" not in name for name in valkey.scan_iter("*"))


def test_fingerprints_tell_method_path_and_body_apart() -> None:
    found = {
        fingerprint_of(*each)
        for each in (
            ("POST", PATH, b"a"),
            ("POST", PATH, b"b"),
            ("POST", PATH + "a", b""),
            ("GET", PATH, b"a"),
        )
    }
    assert len(found) == 4


@pytest.mark.parametrize(
    ("status", "final"),
    [(200, True), (400, True), (404, True), (422, True), (409, False), (429, False), (500, False),
     (503, False)],
)  # fmt: skip
def test_what_is_remembered(status: int, final: bool) -> None:
    assert is_final(status) == final


def test_controls_read_the_two_headers_and_no_other() -> None:
    assert not controls_of([(b"accept", b"*/*"), (b"idempotency", b"x")]).is_kept
    kept = controls_of([(b"idempotency-key", b"A-1"), (b"x-sluice-resumable", b"1")])
    assert kept.idempotency_key == b"A-1" and kept.is_resumable and kept.is_kept
    assert not controls_of([(b"x-sluice-resumable", b"false")]).is_kept
    for wrong in (b"", b" ", b"a b", b"\xff", b"x" * 256):
        with pytest.raises(InvalidRequest) as found:
            controls_of([(b"idempotency-key", wrong)])
        assert found.value.param == "idempotency-key"
