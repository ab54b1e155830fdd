"""Tenants, prices and usage reports for the tests of billing."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from billing.models import Price
from billing.usage import UsageReport
from tenants.actions import create_api_key
from tenants.models import ApiKey, Organization, Plan, Project

# A fixed moment after every price's start and before now.
STARTED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODEL = "test-model"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Tenant:
    organization: Organization
    project: Project
    key: ApiKey


def make_tenant(name: str = "Acme") -> Tenant:
    plan, _ = Plan.objects.get_or_create(slug="billing-test", defaults={"name": "Billing test"})
    organization = Organization.objects.create(name=name, plan=plan)
    project = Project.objects.create(organization=organization, name="Default project")
    key, _ = create_api_key(project, "Key", acting_user=None)
    return Tenant(organization, project, key)


def make_price(
    model: str = MODEL,
    *,
    rates: tuple[int, int, int] = (2_000_000, 500_000, 6_000_000),
    effective_from: datetime = datetime(2026, 1, 1, tzinfo=UTC),
) -> Price:
    """``rates`` are micro-dollars a million tokens of input, cached input and output."""
    return Price.objects.create(
        model=model,
        effective_from=effective_from,
        input_micros_per_million=rates[0],
        cached_input_micros_per_million=rates[1],
        output_micros_per_million=rates[2],
    )


def make_report(tenant: Tenant, **changes: Any) -> UsageReport:
    """A completed chat of 100 + 10 tokens with a request id of its own."""
    report = UsageReport(
        request_id=f"req_{next(_numbers):08d}",
        organization=tenant.organization.pk,
        project=tenant.project.pk,
        api_key=tenant.key.pk,
        model=MODEL,
        endpoint="chat.completions",
        status="completed",
        source="gateway",
        prompt_tokens=100,
        cached_tokens=0,
        completion_tokens=10,
        started_at=STARTED_AT.timestamp(),
        time_to_first_token_ms=12,
        duration_ms=340,
        replica="chat-1",
    )
    return msgspec.structs.replace(report, **changes)
