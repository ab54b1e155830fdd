"""Warn one person that an API key is about to expire."""

from __future__ import annotations

from tenants.key_expiry import deliver_warning
from workers.jobs.perform import Kind
from workers.jobs.work import Work


def run(work: Work) -> None:
    deliver_warning(work.job)


KIND = Kind(run, longest_s=120)
