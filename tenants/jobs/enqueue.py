"""Work to be done once, whatever happens to whoever asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction

from tenants import audit, encryption
from tenants.jobs.held import HeldJob
from tenants.jobs.wake import wake_workers
from tenants.models import Job, Organization, Project, User

# Identifiers and choices: what a job is about is read from its own rows when it runs.
MOST_PAYLOAD_BYTES = 4096
_SEAL = "job"


@transaction.atomic
def enqueue(
    kind: str,
    effect_key: str,
    *,
    organization: Organization | None,
    project: Project | None = None,
    payload: Mapping[str, Any] | None = None,
    secret: str | None = None,
    priority: int = Job.Priority.NORMAL,
    run_after: datetime | None = None,
    max_attempts: int = 5,
    created_by: User | None = None,
) -> Job:
    """The job of this effect; the second call for one effect finds the first one's row.

    Inside the caller's transaction: the job is there when, and only when, that commits.
    ``secret`` is stored encrypted until the job has ended (``unseal``). Only staff's code
    enqueues for no organization.
    """
    fields: dict[str, Any] = {
        "organization": organization,
        "project": project,
        "payload": _checked(payload or {}),
        "sealed": encryption.encrypt(secret, purpose=_SEAL) if secret is not None else None,
        "priority": priority,
        "max_attempts": max_attempts,
        "created_by": created_by,
    }
    if run_after is not None:
        fields["run_after"] = run_after
    job, is_new = Job.objects.get_or_create(kind=kind, effect_key=effect_key, defaults=fields)
    if is_new:
        transaction.on_commit(wake_workers, robust=True)
    return job


def _checked(payload: Mapping[str, Any]) -> dict[str, Any]:
    given = dict(payload)
    if len(audit.canonical(given).encode()) > MOST_PAYLOAD_BYTES:
        raise ValueError(f"The payload of a job has at most {MOST_PAYLOAD_BYTES} bytes.")
    return given


def unseal(job: HeldJob) -> str:
    """The secret that was enqueued with the job."""
    if job.sealed is None:
        raise ValueError(f"{job.public_id} was enqueued without a secret.")
    return encryption.decrypt(job.sealed, purpose=_SEAL)
