"""Send one event to one webhook endpoint."""

from __future__ import annotations

from tenants.webhooks.delivery import deliver
from workers.jobs.perform import Kind
from workers.jobs.work import Work


def run(work: Work) -> None:
    deliver(work.job, work.effect)


# An attempt takes 15 s and a look-up of its name 5 s.
KIND = Kind(run, longest_s=60)
