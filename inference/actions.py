"""Every change to the registry: one function and one transaction each, audited.

Gateways cache the registry; ``notify_registry_changed`` tells them, in the same
transaction, to read it again: PostgreSQL delivers the notice when it commits.
"""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import redis
from django.conf import settings
from django.db import IntegrityError, connection, transaction

from inference import response_cache
from inference.models import Deployment, Model, ModelVersion
from tenants import audit
from tenants.errors import InvalidInput
from tenants.models import Organization, User

CHANNEL = "registry_changed"


def notify_registry_changed() -> None:
    """Tell every gateway, on commit, that models, versions or deployments changed."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])


@dataclass(frozen=True)
class Weights:
    """What one version loads; the fields are ``ModelVersion``'s. ``path`` is in the store."""

    source_uri: str
    path: str
    sha256: str
    dtype: str
    max_context_tokens: int
    embedding_dimensions: int | None = None
    engine_options: dict[str, Any] = field(default_factory=dict)
    tool_parser: str = ""
    reasoning_parser: str = ""


# What staff may edit of a version once it is registered.
EDITABLE = frozenset(
    {"dtype", "max_context_tokens", "engine_options", "tool_parser", "reasoning_parser"}
)


@transaction.atomic
def register_version(
    model_name: str,
    version: str,
    weights: Weights,
    *,
    kind: str,
    pulled_at: datetime,
    description: str = "",
    explicit: frozenset[str] = frozenset(),
    acting_user: User | None,
) -> ModelVersion:
    """Make the rows of a pulled version, or bring them up to date; no change, no audit row.

    Pulls are repeated at every start, so what staff edited stays: the model's kind
    and description, and the version's ``EDITABLE`` fields but for those that the
    caller was asked for and names in ``explicit``.
    """
    model, _ = Model.objects.get_or_create(
        name=model_name, defaults={"kind": kind, "description": description}
    )
    row, created = ModelVersion.objects.select_for_update().get_or_create(
        model=model, version=version, defaults={**asdict(weights), "pulled_at": pulled_at}
    )
    wanted = {
        name: value
        for name, value in asdict(weights).items()
        if created or name not in EDITABLE - explicit
    }
    before = {} if created else {name: getattr(row, name) for name in wanted}
    if before == wanted:
        return row
    for name, value in wanted.items():
        setattr(row, name, value)
    row.pulled_at = pulled_at
    row.save(update_fields=[*wanted, "pulled_at"])
    audit.record_event(
        acting_user=acting_user,
        action="model_version.pulled",
        object_type="model_version",
        object_id=f"{model_name}@{version}",
        before=before,
        after=wanted,
    )
    notify_registry_changed()
    return row


# Up to here replicas may be added without asking staff.
MAX_REPLICAS = 8


def deployment_name(model: str) -> str:
    """A model's name as far as a deployment's may be it: meta/llama-3.1 is meta-llama-3-1."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", model)[:80].strip("-")


@transaction.atomic
def create_deployment(
    version: ModelVersion, *, acting_user: User | None, name: str = "", address: str | None = None
) -> Deployment:
    """Serve a pulled version, under its model's name unless given another."""
    name = name or deployment_name(version.model.name)
    if version.pulled_at is None:
        raise InvalidInput(f"{version} is not in the model store.", param="version")
    try:
        with transaction.atomic():
            deployment = Deployment.objects.create(
                name=name, version=version, max_replicas=MAX_REPLICAS
            )
    except IntegrityError as error:
        raise InvalidInput(f"A deployment named {name} exists.", param="name") from error
    audit.record_event(
        acting_user=acting_user,
        action="deployment.created",
        object_type="deployment",
        object_id=name,
        after={"version": str(version), "max_replicas": MAX_REPLICAS},
        address=address,
    )
    notify_registry_changed()
    return deployment


# Longer than any answer is kept: until then each is known to be void.
VOID_KEPT_S = 2 * 86_400


@transaction.atomic
def forget_answers(
    organization: Organization, *, acting_user: User | None, address: str | None = None
) -> None:
    """Make every cached answer of an organization void, those still being made included.

    Raises redis.RedisError, and then nothing has happened.
    """
    now = time.time()
    audit.record_event(
        acting_user=acting_user,
        action="response_cache.cleared",
        object_type="organization",
        object_id=organization.public_id,
        organization=organization,
        after={"void_until": now},
        address=address,
    )
    client = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=settings.REDIS_TIMEOUT_S,
        socket_connect_timeout=settings.REDIS_TIMEOUT_S,
    )
    with client:
        client.set(response_cache.void_key(organization.pk), now, ex=VOID_KEPT_S)
