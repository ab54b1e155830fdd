"""A plan that staff change holds at once: through a gateway's own authenticator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from django.urls import reverse

from billing.credit import grant_credit
from tenants import actions
from tenants.authentication import CACHE_TTL_S, Authenticator
from tenants.models import Organization, Plan
from tenants.plans import DEFAULT_PLANS
from tenants.principal import Principal
from tests.cast import Cast, build_cast
from tests.portal.conftest import log_in
from tests.tenants.database import in_thread

Change = Callable[[Cast], Any]


def test_what_an_installation_sells_first() -> None:
    free, payg, enterprise = DEFAULT_PLANS

    assert (free.requests_per_hour, free.requests_per_minute) == (20, None)
    assert free.tokens_per_day and free.monthly_tokens and not free.allows_custom_limits
    assert payg.is_default and not payg.allows_custom_limits
    assert enterprise.allows_custom_limits and enterprise.allows_dedicated_capacity


def test_the_default_plans_are_made_as_they_are_told(db: None) -> None:
    made = actions.ensure_default_plans(acting_user=None)

    for plan, terms in zip(made, DEFAULT_PLANS, strict=True):
        stored = Plan.objects.values().get(pk=plan.pk)
        assert {name: stored[name] for name in terms.__dataclass_fields__} == {
            name: getattr(terms, name) for name in terms.__dataclass_fields__
        }
    assert actions.ensure_default_plans(acting_user=None) == []


@pytest.fixture
async def gateway(transactional_db: None) -> AsyncIterator[tuple[Cast, Authenticator]]:
    """An authenticator that listens, and knows the owner's key already."""
    cast = await in_thread(build_cast)
    authenticator = Authenticator()
    task = asyncio.create_task(authenticator.run_listener())
    while authenticator._ttl_s != CACHE_TTL_S:
        await asyncio.sleep(0.005)
    await principal_of(authenticator, cast)
    yield cast, authenticator
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def principal_of(authenticator: Authenticator, cast: Cast) -> Principal:
    return await authenticator.authenticate(f"Bearer {cast.owner_key}".encode())


def plan_form(plan: Plan, **changes: Any) -> dict[str, Any]:
    return {
        "name": plan.name, "slug": plan.slug, "fair_share_weight": plan.fair_share_weight,
        "is_default": "on", "model_limits-TOTAL_FORMS": 0, "model_limits-INITIAL_FORMS": 0,
    } | changes  # fmt: skip


def save_plan(**changes: Any) -> Change:
    def save(cast: Cast) -> None:
        plan = Plan.objects.get(pk=cast.organization.plan_id)
        page = reverse("admin:tenants_plan_change", args=[plan.pk])
        assert log_in(cast.staff).post(page, plan_form(plan, **changes)).status_code == 302

    return save


def save_organization(**changes: Any) -> Change:
    def save(cast: Cast) -> None:
        organization = Organization.objects.get(pk=cast.organization.pk)
        page = reverse("admin:tenants_organization_change", args=[organization.pk])
        form = {
            "name": organization.name, "plan": organization.plan_id, "region": "",
            "screening_policy": "flag", "response_cache_ttl_s": 0,
            "semantic_cache": "off", "semantic_cache_ttl_s": 3_600,
            "answers_kept_days": 30,
        }  # fmt: skip
        assert log_in(cast.staff).post(page, form | changes).status_code == 302

    return save


def give_credit(cast: Cast) -> None:
    save_organization(is_prepaid="on")(cast)
    grant_credit(cast.organization, 7_000_000, reference="g", reason="Why", acting_user=None)


def allow_own_limits(cast: Cast) -> None:
    save_plan(allows_custom_limits="on", requests_per_day=100)(cast)
    save_organization(requests_per_day=5)(cast)


@pytest.mark.parametrize(
    "change, holds",
    [
        (save_plan(requests_per_hour=20), lambda p: p.organization_limits.requests_per_hour == 20),
        (save_plan(fair_share_weight=9), lambda p: p.fair_share_weight == 9),
        (save_plan(allows_priority="on"), lambda p: p.allows_priority),
        (
            save_organization(semantic_cache="all", semantic_cache_threshold="0.9"),
            lambda p: (p.semantic_cache, p.semantic_cache_threshold) == ("all", 0.9),
        ),
        (
            save_plan(**{
                "model_limits-TOTAL_FORMS": 1, "model_limits-0-model": "smol",
                "model_limits-0-requests_per_day": 3,
            }),
            lambda p: p.organization_model_limits["smol"].requests_per_day == 3,
        ),
        (allow_own_limits, lambda p: p.organization_limits.requests_per_day == 5),
        (give_credit, lambda p: p.credit_granted_micros == 7_000_000),
    ],
    ids=["limit", "weight", "priority", "semantic cache", "limit of a model", "limits of its own", "credit"],
)  # fmt: skip
async def test_a_change_holds_within_a_second(
    gateway: tuple[Cast, Authenticator], change: Change, holds: Callable[[Principal], bool]
) -> None:
    cast, authenticator = gateway
    await in_thread(change, cast)
    changed = time.monotonic()
    while True:
        try:
            if holds(await principal_of(authenticator, cast)):
                break
        except KeyError:
            pass
        assert time.monotonic() - changed < 1
        await asyncio.sleep(0.005)
