"""Settings → Caching: an organization's terms, figures, advice, and forgetting."""

from __future__ import annotations

import time

import pytest
from django.conf import settings
from redis import Redis

from inference.cache_analysis import day_key
from inference.response_cache import void_key
from tenants.models import AuditEvent
from tests.cast import Cast
from tests.portal.conftest import log_in

FORM = {
    "response_cache_ttl_s": "14400",
    "semantic_cache": "asked",
    "semantic_cache_ttl_s": "600",
    "semantic_cache_threshold": "0.97",
}


def url(cast: Cast, path: str = "") -> str:
    return f"/o/{cast.organization.public_id}/settings/caching/{path}"


@pytest.mark.parametrize("who", ["owner", "admin"])
def test_terms_are_changed_and_audited(cast: Cast, valkey: Redis, who: str) -> None:
    user = getattr(cast, who)
    assert log_in(user).post(url(cast), FORM).status_code == 302
    cast.organization.refresh_from_db()
    organization = cast.organization
    assert (organization.response_cache_ttl_s, organization.semantic_cache_ttl_s) == (14_400, 600)
    assert (organization.semantic_cache, organization.semantic_cache_threshold) == ("asked", 0.97)
    event = AuditEvent.objects.get(action="organization.updated")
    assert event.acting_user == user and event.before["semantic_cache"] == "off"
    again = log_in(user).post(url(cast), FORM | {"semantic_cache_threshold": ""})
    assert again.status_code == 302
    cast.organization.refresh_from_db()
    assert cast.organization.semantic_cache_threshold is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("response_cache_ttl_s", "-5"),
        ("semantic_cache", "sometimes"),
        ("semantic_cache_ttl_s", "0"),
        ("semantic_cache_threshold", "0.4"),
        ("semantic_cache_threshold", "nan"),
    ],
)
def test_bad_terms_change_nothing(cast: Cast, valkey: Redis, field: str, value: str) -> None:
    answer = log_in(cast.owner).post(url(cast), FORM | {field: value})
    assert answer.status_code == 400 and answer.context["form"].errors.keys() == {field}
    cast.organization.refresh_from_db()
    assert cast.organization.response_cache_ttl_s == 0


def test_without_requests_it_says_so_and_without_redis_too(
    cast: Cast, valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = log_in(cast.owner)
    assert "Nothing to tell yet" in client.get(url(cast)).content.decode()
    monkeypatch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:1/0")
    page = client.get(url(cast))
    assert page.status_code == 200 and "No figures right now" in page.content.decode()
    answer = client.post(url(cast, "forget/"), follow=True).content.decode()
    assert "nothing was forgotten" in answer
    assert not AuditEvent.objects.filter(action="response_cache.cleared").exists()


def test_figures_and_advice_are_of_this_organization(cast: Cast, valkey: Redis) -> None:
    valkey.hset(
        day_key(cast.organization.pk, time.time()),
        mapping={
            "requests": 1_000, "hits": 34, "fixed": 900, "exact_1h": 250, "exact_4h": 255,
            "exact_24h": 260, "exact_1h_tokens": 12_345, "exact_1h_micros": 7_500_000,
        },
    )  # fmt: skip
    page = log_in(cast.owner).get(url(cast)).content.decode()
    for shown in ("3.4 %", "12,345", "$7.50", "keep answers for 1 hour", "25.0 %"):
        assert shown in page, shown
    stranger = f"/o/{cast.other_organization.public_id}/settings/caching/"
    assert "Nothing to tell yet" in log_in(cast.stranger).get(stranger).content.decode()


def test_answers_are_forgotten_after_asking(cast: Cast, valkey: Redis) -> None:
    client = log_in(cast.owner)
    asked = client.get(url(cast, "forget/")).content.decode()
    assert "Forget cached answers?" in asked and not valkey.exists(void_key(cast.organization.pk))
    before = time.time()
    assert client.post(url(cast, "forget/")).status_code == 302
    assert float(valkey.get(void_key(cast.organization.pk)) or 0) >= before
    assert not valkey.exists(void_key(cast.other_organization.pk))
    event = AuditEvent.objects.get(action="response_cache.cleared")
    assert event.acting_user == cast.owner


@pytest.mark.parametrize("path", ["", "forget/"])
@pytest.mark.parametrize(
    ("who", "status"), [("member", 403), ("billing", 403), ("viewer", 403), ("stranger", 404)]
)
def test_others_do_neither(cast: Cast, valkey: Redis, who: str, status: int, path: str) -> None:
    client = log_in(getattr(cast, who))
    assert client.get(url(cast, path)).status_code == status
    assert client.post(url(cast, path), FORM).status_code == status
    cast.organization.refresh_from_db()
    assert cast.organization.response_cache_ttl_s == 0
    assert not valkey.exists(void_key(cast.organization.pk))
