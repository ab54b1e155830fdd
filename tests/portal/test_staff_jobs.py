"""Staff and durable jobs: watched, cancelled, tried again, and nobody else."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from tenants import jobs
from tenants.models import AuditEvent, Job
from tests.cast import Cast
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db
LIST = "admin:tenants_job_changelist"


@pytest.fixture
def job(cast: Cast) -> Job:
    return jobs.enqueue(
        "export.audit", "1", organization=cast.organization, secret="sesame", max_attempts=1
    )


@pytest.fixture
def staff(cast: Cast) -> Client:
    return log_in(cast.staff)


def page(job: Job, name: str) -> str:
    return reverse(f"admin:tenants_job_{name}", args=[job.pk])


def test_what_runs_is_shown_with_its_progress(staff: Client, job: Job) -> None:
    (held,) = jobs.claim("worker-7")
    jobs.report_progress(held, 250, 1000)
    answer = staff.get(reverse(LIST), {"state__exact": "running"})
    html = answer.content.decode()
    assert "250 of 1,000 (25 %)" in html and job.public_id in html
    assert answer.headers["Refresh"] == "5"
    assert "Refresh" not in staff.get(reverse(LIST)).headers
    shown = staff.get(page(job, "change")).content.decode()
    assert "worker-7" in shown and "sesame" not in shown and "sealed" not in shown


def test_staff_cancel_what_runs(cast: Cast, staff: Client, job: Job) -> None:
    (held,) = jobs.claim("w")
    assert staff.get(page(job, "cancel")).status_code == 200
    job.refresh_from_db()
    assert job.state == "running", "a link alone changes nothing"
    assert staff.post(page(job, "cancel")).status_code == 302
    job.refresh_from_db()
    assert job.state == "cancelled"
    assert jobs.renew([held]) == {held.pk}
    assert AuditEvent.objects.filter(action="job.cancelled", acting_user=cast.staff).exists()


def test_staff_try_again_what_failed(staff: Client, job: Job) -> None:
    (held,) = jobs.claim("w")
    jobs.fail(held, "SMTPException: greylisted")
    assert "greylisted" in staff.get(reverse(LIST)).content.decode()
    staff.post(page(job, "retry"))
    job.refresh_from_db()
    assert (job.state, job.attempts, job.error) == ("queued", 0, "")


def test_what_has_ended_is_left_alone(staff: Client, job: Job) -> None:
    (held,) = jobs.claim("w")
    jobs.complete(held)
    for name in ("cancel", "retry"):
        answer = staff.post(page(job, name), follow=True)
        assert (
            "This job has ended" in answer.content.decode()
            or "Only a job" in answer.content.decode()
        )
    job.refresh_from_db()
    assert job.state == "succeeded"


def test_nobody_else(cast: Cast, job: Job) -> None:
    for name in ("cancel", "retry"):
        assert log_in(cast.owner).post(page(job, name)).status_code == 302
    job.refresh_from_db()
    assert job.state == "queued"
