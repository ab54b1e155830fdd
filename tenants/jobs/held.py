"""A claimed job as its holder knows it, and how the holder learns that it holds it no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tenants.models import Job


class LeaseLost(Exception):
    """The job was cancelled, or its lease ran out and somebody else may have it: stop, and
    leave no effect."""


@dataclass(frozen=True, slots=True)
class HeldJob:
    pk: int
    public_id: str
    kind: str
    organization: int | None  # primary key
    project: int | None
    payload: dict[str, Any]
    sealed: bytes | None
    attempt: int  # 1 for the first
    max_attempts: int
    token: int

    @property
    def is_last_attempt(self) -> bool:
        return self.attempt >= self.max_attempts


def held_of(job: Job) -> HeldJob:
    """From a row that was just leased."""
    return HeldJob(
        pk=job.pk,
        public_id=job.public_id,
        kind=job.kind,
        organization=job.organization_id,
        project=job.project_id,
        payload=job.payload,
        sealed=bytes(job.sealed) if job.sealed is not None else None,
        attempt=job.attempts,
        max_attempts=job.max_attempts,
        token=job.fencing_token,
    )
