"""From a key's row to a ``Principal``: what the database knows of a caller, read at once.

One statement and not the ORM, because building the ORM's four took two thirds of a
look-up (``docs/performance.md``, Tenancy at scale); its rows come as JSON, so that a
new limit needs no new column here.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import connection
from django.utils import timezone

from tenants import scope
from tenants.models import ApiKey, LimitFields, Organization
from tenants.principal import NO_LIMITS, Limits, Principal

Row = dict[str, Any]

# What tells whether a presented secret is right, and whose it is.
_PRESENTED = (
    "organization_id",
    "lookup",
    "secret_hmac",
    "previous_lookup",
    "previous_secret_hmac",
    "previous_expires_at",
    "expires_at",
    "suspended_at",
    "revoked_at",
)
_READ = """
SELECT jsonb_build_object(
    'key', to_jsonb(key) - '{secret_hmac,previous_secret_hmac}'::text[],
    'organization', to_jsonb(organization),
    'plan', to_jsonb(plan),
    'project', to_jsonb(project),
    'service_account', to_jsonb(account),
    'plan_models', (
        SELECT jsonb_agg(to_jsonb(model_limit)) FROM tenants_planmodellimit AS model_limit
        WHERE model_limit.plan_id = plan.id
    ),
    'project_models', (
        SELECT jsonb_agg(to_jsonb(model_limit)) FROM tenants_projectmodellimit AS model_limit
        WHERE model_limit.project_id = key.project_id
    )
)::text
FROM tenants_apikey AS key
JOIN tenants_organization AS organization ON organization.id = key.organization_id
JOIN tenants_plan AS plan ON plan.id = organization.plan_id
LEFT JOIN tenants_project AS project ON project.id = key.project_id
LEFT JOIN tenants_serviceaccount AS account ON account.id = key.service_account_id
WHERE key.id = %s AND key.organization_id = %s AND key.revoked_at IS NULL
"""
_LIMITS = tuple(Limits.__dataclass_fields__)


def get_principal(lookup: str, digest: bytes) -> Principal | None:
    """The principal of a live key whose HMAC is ``digest``: one query to find the key in
    the scope of its lookup part alone, one more in its organization's if it is right."""
    try:
        with scope.for_key(lookup):
            found = ApiKey.objects.filter(revoked_at=None).only(*_PRESENTED).first()
        if not is_right(found, lookup, digest):
            return None
        assert found is not None
        with scope.for_organization(found.organization_id):
            return _principal_of(found, lookup)
    finally:
        connection.close()  # back to the pool: this thread has no request to end it


def get_key_principal(api_key: int) -> Principal | None:
    """The principal in whose name something runs that the key (by primary key) began before;
    None if the key does not live any more. In a scope that sees the key."""
    found = ApiKey.objects.filter(pk=api_key, revoked_at=None).only(*_PRESENTED).first()
    if found is None or not found.is_live:
        return None
    with scope.for_organization(found.organization_id):
        return _principal_of(found, found.lookup)


def is_right(key: ApiKey | None, lookup: str, digest: bytes) -> bool:
    """Whether ``key``, found by ``lookup``, is live and has this digest.

    Compares in constant time, also when there is no key to compare with.
    """
    stored, is_in_time = b"\0" * 32, False
    if key is not None and key.lookup == lookup:
        stored, is_in_time = bytes(key.secret_hmac), True
    elif key is not None and key.previous_lookup == lookup:
        stored = bytes(key.previous_secret_hmac or stored)
        is_in_time = key.previous_expires_at is not None and (
            key.previous_expires_at > timezone.now()
        )
    return hmac.compare_digest(stored, digest) and is_in_time and key is not None and key.is_live


def _principal_of(found: ApiKey, lookup: str) -> Principal | None:
    with connection.cursor() as cursor:
        cursor.execute(_READ, [found.pk, found.organization_id])
        row = cursor.fetchone()
    if row is None:  # revoked a moment ago
        return None
    rows = json.loads(row[0])
    project, account = rows["project"], rows["service_account"]
    if project is not None and project["archived_at"] is not None:
        return None
    # Its keys were revoked with it; one that was being made meanwhile was not.
    if account is not None and account["deleted_at"] is not None:
        return None
    return _principal(rows, _end(found, lookup))


def read_principal(rows: Row, *, person: int, end: datetime) -> Principal:
    """Of somebody without a key, who may call whatever the project may, with no limits of
    their own. ``rows`` are as ``_READ`` gives them."""
    key = {
        **dict.fromkeys(_LIMITS),
        **{"id": person, "project_id": rows["project"]["id"], "kind": ApiKey.Kind.PROJECT},
        **{"scopes": (), "allowed_networks": (), "allowed_models": ()},
    }
    return _principal({**rows, "key": key}, end)


def _principal(rows: Row, end: datetime | None) -> Principal:
    key, organization, project = rows["key"], rows["organization"], rows["project"]
    allowed = (key["allowed_models"], project["allowed_models"] if project else [])
    credit_micros = organization["credit_granted_micros"]
    return Principal(
        api_key=key["id"],
        project=key["project_id"] or 0,
        organization=organization["id"],
        organization_public_id=organization["public_id"],
        fair_share_weight=rows["plan"]["fair_share_weight"],
        region=organization["region"],
        data_residency=organization["data_residency"],
        screening_policy=organization["screening_policy"],
        response_cache_ttl_s=organization["response_cache_ttl_s"],
        is_suspended=organization["suspended_at"] is not None,
        key_expires_at=end.timestamp() if end else None,
        organization_limits=_organization_limits(organization, rows["plan"]),
        project_limits=_limits(project) if project else NO_LIMITS,
        key_limits=_limits(key),
        organization_model_limits=_by_model(rows["plan_models"]),
        project_model_limits=_by_model(rows["project_models"]),
        credit_granted_micros=credit_micros if organization["is_prepaid"] else None,
        kind=key["kind"],
        scopes=frozenset(key["scopes"]),
        allowed_networks=tuple(key["allowed_networks"]),
        allows_priority=rows["plan"]["allows_priority"],
        semantic_cache=organization["semantic_cache"],
        semantic_cache_ttl_s=organization["semantic_cache_ttl_s"],
        semantic_cache_threshold=organization["semantic_cache_threshold"],
        answers_kept_days=organization["answers_kept_days"],
        allowed_models=tuple(frozenset(names) for names in allowed if names),
        denied_models=frozenset(project["denied_models"] if project else []),
    )


def _end(key: ApiKey, lookup: str) -> datetime | None:
    """When the presented secret ends: with its key, or with the overlap of a rotation."""
    overlap_end = key.previous_expires_at if lookup == key.previous_lookup else None
    return min((end for end in (key.expires_at, overlap_end) if end), default=None)


def _organization_limits(organization: Row, plan: Row) -> Limits:
    """The organization's own where its plan allows them and they are set, else the plan's;
    and never above what it allows itself to spend."""
    limits = _limits(plan)
    if plan["allows_custom_limits"]:
        own = {name: organization[name] for name in _LIMITS if organization[name] is not None}
        limits = replace(limits, **own)
    budgets = [limits.monthly_budget_micros, organization["spend_limit_micros"]]
    lowest = min((budget for budget in budgets if budget is not None), default=None)
    return replace(limits, monthly_budget_micros=lowest)


def limits_of_organization(organization: Organization) -> Limits:
    """By the rules that admission goes by; needs its ``plan``."""
    return _organization_limits(vars(organization), vars(organization.plan))


def monthly_budget_of(organization: Organization) -> int | None:
    """Micro-dollars, of the same."""
    return limits_of_organization(organization).monthly_budget_micros


def limits_of(row: LimitFields) -> Limits:
    """What a row sets by itself."""
    return _limits(vars(row))


def _limits(row: Row) -> Limits:
    return Limits(*[row[name] for name in _LIMITS])


def _by_model(rows: list[Row] | None) -> dict[str, Limits]:
    return {row["model"]: _limits(row) for row in rows or []}
