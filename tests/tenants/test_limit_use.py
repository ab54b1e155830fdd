"""What pages say of limits is what admission goes by."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync
from django.conf import settings
from django.test import override_settings
from django.utils import timezone

from billing import limit_use
from billing.actions import record_usage
from tenants.admission import Admission
from tenants.admission.kinds import KINDS
from tenants.admission.standing import State
from tenants.admission.subjects import amounts_of
from tenants.errors import LimitExceeded
from tenants.limit_use import LimitReport, SubjectUse
from tenants.models import PlanModelLimit, Project
from tenants.principal import Limits, Principal
from tenants.principals import get_key_principal
from tenants.redis_link import RedisLink
from tests.billing.factory import Tenant, make_report
from tests.cast import Cast
from tests.tenants.factory import MODEL, Ledger, make_principal

LIMITS = Limits(10, 100, 1_000, 6_000, 100_000, 5, 10_000, 50_000)


def used(subject: SubjectUse) -> dict[str, int | None]:
    return {limit.kind.name: limit.used for limit in subject.limits}


def subject(report: LimitReport, kind: str, model: str | None = None) -> SubjectUse:
    return next(each for each in report.subjects if (each.kind, each.model) == (kind, model))


async def hold(admission: Admission, principal: Principal, request_id: str) -> str:
    held = await admission.admit(
        principal, request_id, model=MODEL, expected_tokens=500, most_tokens=800,
        most_cost_micros=4_000, note=b"",
    )  # fmt: skip
    headers = dict(held.headers)
    return headers.get(b"x-ratelimit-remaining-requests", b"").decode()


async def test_used_is_the_limit_minus_what_headers_say_is_left(
    admission: Admission, valkey: redis.Redis
) -> None:
    principal = make_principal(LIMITS)
    key = f"limit:o{principal.organization}"

    def standing() -> dict[str, Any]:
        seconds, micros = valkey.time()
        state = State(valkey.get(key), seconds * 1000 + micros / 1000)
        found = state.used_of(amounts_of(LIMITS).by_place)
        return {kind.name: each for kind, each in zip(KINDS, found, strict=True)} | {
            "running": state.running
        }

    left = [await hold(admission, principal, f"req-{number}") for number in range(3)]
    now = standing()
    assert LIMITS.requests_per_minute - int(left[-1]) == now["requests_per_minute"] == 3
    assert (now["requests_per_hour"], now["requests_per_day"]) == (3, 3)
    assert 1_400 < now["tokens_per_minute"] <= 1_500 and now["tokens_per_day"] == 1_500
    assert now["concurrent_requests"] == now["running"] == 3
    assert (now["monthly_tokens"], now["monthly_budget"]) == (2_400, 12_000)
    assert now["prepaid_credit"] is None, "no limit, nothing to tell"

    for number in range(3):
        await admission.settle(f"req-{number}", used_tokens=100, cost_micros=1_000, report=b"")
    now = standing()
    assert now["concurrent_requests"] == now["running"] == 0
    assert (now["monthly_tokens"], now["monthly_budget"]) == (300, 3_000)


async def test_a_bar_is_full_when_requests_are_refused(
    admission: Admission, valkey: redis.Redis
) -> None:
    principal = make_principal(Limits(concurrent_requests=2))
    with pytest.raises(LimitExceeded):
        for number in range(3):
            await hold(admission, principal, f"req-{number}")
    state = State(valkey.get(f"limit:o{principal.organization}"), valkey.time()[0] * 1000)
    limits = (*astuple(Limits(concurrent_requests=2)), None)
    assert state.used_of([-1 if each is None else each for each in limits])[5] == 2


def test_what_was_in_flight_a_lease_ago_and_a_bucket_flow_off() -> None:
    assert State(None, 0.0).used_of([5] * 9) == (0, 0, 0, 0, 0, 0, None, None, None)
    assert State(b"another version's", 0.0).running == 0


@pytest.fixture
def limited(cast: Cast, valkey: redis.Redis) -> Cast:
    """Plan, plan's model, project and key have limits; nothing was counted yet."""
    plan = cast.organization.plan
    plan.monthly_tokens, plan.monthly_budget_micros = 1_000, 9_000
    plan.save()
    PlanModelLimit.objects.create(plan=plan, model="big", requests_per_minute=3)
    Project.objects.filter(pk=cast.project.pk).update(monthly_budget_micros=5_000)
    type(cast.owner_api_key).objects.filter(pk=cast.owner_api_key.pk).update(monthly_tokens=77)
    cast.organization.refresh_from_db()
    return cast


def _use(cast: Cast) -> None:
    mine = Tenant(cast.organization, cast.project, cast.owner_api_key)
    theirs = Tenant(cast.other_organization, cast.other_project, cast.stranger_api_key)
    now = timezone.now().timestamp()
    for tenant in (mine, theirs, theirs):
        record_usage([make_report(tenant, started_at=now, model=MODEL)])


def test_sums_that_redis_does_not_know_are_those_recorded(limited: Cast) -> None:
    _use(limited)
    report = limit_use.get_limit_report(limited.organization)
    assert report.is_current and report.running == 0
    assert used(report.organization) == {
        "requests_per_minute": 0, "monthly_tokens": 110, "monthly_budget": 0,
    }  # fmt: skip
    assert used(subject(report, "organization", "big")) == {"requests_per_minute": 0}
    assert used(subject(report, "project")) == {"monthly_budget": 0}
    assert used(subject(report, "API key")) == {"monthly_tokens": 110}
    assert {each.public_id for each in report.subjects} == {
        limited.organization.public_id, limited.project.public_id, limited.owner_api_key.public_id,
    }  # fmt: skip


def test_what_admission_counts_is_shown_for_each_subject(limited: Cast) -> None:
    principal = get_key_principal(limited.owner_api_key.pk)
    assert principal is not None

    @async_to_sync
    async def one_in_flight() -> None:
        link = RedisLink(settings.REDIS_URL, timeout_s=5, name="test")
        admission = Admission(link, hold_expiry_s=settings.HOLD_EXPIRY_S, read_spent=Ledger())
        await admission.admit(
            principal, "req-1", model="big", expected_tokens=5, most_tokens=7,
            most_cost_micros=3_000, note=b"",
        )  # fmt: skip
        await link.aclose()

    one_in_flight()
    report = limit_use.get_limit_report(limited.organization)
    assert report.running == 1
    assert used(report.organization)["monthly_budget"] == 3_000
    assert used(subject(report, "organization", "big")) == {"requests_per_minute": 1}
    assert used(subject(report, "project")) == {"monthly_budget": 3_000}
    assert used(subject(report, "API key")) == {"monthly_tokens": 7}


def test_without_redis_only_what_was_recorded_is_known(limited: Cast) -> None:
    _use(limited)
    with override_settings(REDIS_URL="redis://127.0.0.1:1/0", REDIS_TIMEOUT_S=0.2):
        report = limit_use.get_limit_report(limited.organization)
    assert not report.is_current and report.running is None
    assert used(report.organization) == {
        "requests_per_minute": None, "monthly_tokens": 110, "monthly_budget": 0,
    }  # fmt: skip
