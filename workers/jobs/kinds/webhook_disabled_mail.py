"""Tell one person that a webhook endpoint was disabled."""

from __future__ import annotations

from tenants.webhooks.notices import deliver_disabled
from workers.jobs.perform import Kind
from workers.jobs.work import Work


def run(work: Work) -> None:
    deliver_disabled(work.job)


KIND = Kind(run, longest_s=120)
