"""Mail the link of an invitation."""

from __future__ import annotations

from tenants.mail import deliver_invitation
from workers.jobs.perform import Kind
from workers.jobs.work import Work


def run(work: Work) -> None:
    deliver_invitation(work.job)


# The mail server's own time-out is 10 s.
KIND = Kind(run, longest_s=120)
