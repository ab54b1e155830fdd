"""``/v1/organization/caching``: the same as the portal's page, for programs."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.conf import settings
from redis import Redis

from inference.cache_analysis import day_key
from inference.response_cache import void_key
from inference.semantic_cache import DEFAULT_THRESHOLD
from tenants.models import AuditEvent
from tests.api.management import Caller
from tests.cast import Cast


def test_terms_are_read_and_changed_in_part(owner: Caller, cast: Cast) -> None:
    terms = {
        "response_cache_ttl_s": 0, "semantic_cache": "off", "semantic_cache_ttl_s": 3_600,
        "semantic_cache_threshold": DEFAULT_THRESHOLD, "object": "organization.caching",
    }  # fmt: skip
    assert owner.get("/caching") == terms
    changed = {"semantic_cache": "all", "semantic_cache_threshold": 0.97}
    assert owner.post("/caching", changed) == terms | changed
    assert owner.post("/caching", {}) == terms | changed
    threshold: dict[str, Any] = {"semantic_cache_threshold": None}
    assert owner.post("/caching", threshold)["semantic_cache_threshold"] == DEFAULT_THRESHOLD
    assert AuditEvent.objects.filter(action="organization.updated").count() == 2


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_cache_ttl_s": 86_401}, "response_cache_ttl_s"),
        ({"response_cache_ttl_s": None}, "response_cache_ttl_s"),
        ({"semantic_cache": "on"}, "semantic_cache"),
        ({"semantic_cache_ttl_s": 59}, "semantic_cache_ttl_s"),
        ({"semantic_cache_threshold": 1.01}, "semantic_cache_threshold"),
        ({"ttl": 60}, "ttl"),
    ],
)
def test_bad_terms_are_refused_by_name(
    owner: Caller, cast: Cast, body: dict[str, Any], param: str
) -> None:
    assert owner.post("/caching", body, 400)["param"] == param
    assert owner.get("/caching")["semantic_cache"] == "off"


def test_the_report_is_of_this_organization(
    owner: Caller, stranger: Caller, cast: Cast, valkey: Redis
) -> None:
    sums = {"requests": 1_000, "hits": 34, "exact_1h": 250, "exact_24h": 250, "alike_24h": 80}
    valkey.hset(day_key(cast.organization.pk, time.time()), mapping=sums)
    report = owner.get("/caching/report")
    assert (report["requests"], report["cache_hits"]) == (1_000, 34)
    assert [each["share"] for each in report["exact_potential"]] == [0.25, 0.0, 0.25]
    assert [each["code"] for each in report["advice"]] == ["exact", "semantic"]
    assert report["advice"][0]["response_cache_ttl_s"] == 3_600
    assert stranger.get("/caching/report")["requests"] == 0


def test_answers_are_forgotten(owner: Caller, cast: Cast, valkey: Redis) -> None:
    assert owner.post("/caching/forget")["forgotten"] is True
    assert valkey.exists(void_key(cast.organization.pk))
    event = AuditEvent.objects.get(action="response_cache.cleared")
    assert event.organization == cast.organization


def test_without_redis_nothing_is_forgotten_and_it_says_so(
    owner: Caller, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:1/0")
    for answer in (owner.get("/caching/report", 503), owner.post("/caching/forget", None, 503)):
        assert answer["code"] == "service_unavailable"
    assert not AuditEvent.objects.filter(action="response_cache.cleared").exists()
