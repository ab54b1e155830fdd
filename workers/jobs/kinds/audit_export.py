"""Write an organization's audit trail into a file."""

from __future__ import annotations

from typing import Any

from tenants.exports import write_audit_export
from workers.jobs.perform import Kind
from workers.jobs.work import Work


def run(work: Work) -> dict[str, Any]:
    return write_audit_export(work.job, work.progress)


KIND = Kind(run)
