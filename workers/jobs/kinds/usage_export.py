"""Write an organization's requests of a period into a file."""

from __future__ import annotations

from typing import Any

from billing.exports import write_usage_export
from workers.jobs.perform import Kind
from workers.jobs.work import Work


def run(work: Work) -> dict[str, Any]:
    return write_usage_export(work.job, work.progress)


KIND = Kind(run)
