"""Tell one recipient that a month's costs reached an alert's threshold."""

from __future__ import annotations

from billing.spend_watch import deliver_alert
from workers.jobs.perform import Kind
from workers.jobs.work import Work


def run(work: Work) -> None:
    deliver_alert(work.job)


KIND = Kind(run, longest_s=120)
