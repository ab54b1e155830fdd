"""Plans: made; staff change them in the admin."""

from __future__ import annotations

from dataclasses import asdict

from django.db import IntegrityError, transaction

from tenants import audit
from tenants.errors import InvalidInput
from tenants.models import Plan, User
from tenants.plans import DEFAULT_PLANS, PlanTerms


@transaction.atomic
def create_plan(terms: PlanTerms, *, acting_user: User | None, address: str | None = None) -> Plan:
    try:
        with transaction.atomic():
            plan = Plan.objects.create(**asdict(terms))
    except IntegrityError as error:
        raise InvalidInput("This plan, or another default one, exists.", param="slug") from error
    audit.record_event(
        acting_user=acting_user,
        action="plan.created",
        object_type="plan",
        object_id=terms.slug,
        after=asdict(terms),
        address=address,
    )
    return plan


@transaction.atomic
def ensure_default_plans(*, acting_user: User | None) -> list[Plan]:
    """The default plans if there is no plan at all; returns the new ones.

    Not one by one: a plan that staff renamed or deleted must not come back.
    """
    if Plan.objects.exists():
        return []
    return [create_plan(terms, acting_user=acting_user) for terms in DEFAULT_PLANS]
