"""Exports: asked for once, written whole or not at all, fetched by who may, gone after a week."""

from __future__ import annotations

import csv
import json
import os
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from billing.actions import record_usage
from billing.exports import request_usage_export
from tenants import audit_chain, export_files, exports, jobs
from tenants.audit_events import AuditFilters
from tenants.errors import AccessDenied, InvalidInput, NotFound
from tenants.models import AuditEvent, Job, Membership, Organization, User
from tests.billing.factory import Tenant, make_report
from tests.cast import Cast
from tests.jobs import run_due_jobs

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, settings: Any) -> Path:
    settings.STATE_DIR = tmp_path
    return tmp_path / "exports"


def ask(cast: Cast, format: str = "csv", filters: AuditFilters | None = None, **more: Any) -> Job:
    return exports.request_audit_export(
        cast.organization, filters or AuditFilters(), format=format, acting_user=cast.owner, **more
    )


def membership(organization: Organization, user: User) -> Membership:
    return Membership.objects.get(organization=organization, user=user)


def finished(job: Job) -> Job:
    assert run_due_jobs() == ["succeeded"]
    return Job.objects.get(pk=job.pk)


def test_a_filtered_trail_as_csv(cast: Cast) -> None:
    job = finished(ask(cast, filters=AuditFilters(actions=("api_key.created",))))
    path = exports.file_of(job)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["action"] for row in rows} == {"api_key.created"}
    assert len(rows) == AuditEvent.objects.filter(
        organization=cast.organization, action="api_key.created"
    ).count()  # fmt: skip
    assert job.result["lines"] == len(rows) + 1 and job.result["bytes"] == path.stat().st_size


def test_the_whole_trail_as_a_chain_that_verifies(cast: Cast) -> None:
    path = exports.file_of(finished(ask(cast, "jsonl")))
    lines = path.read_text().splitlines()
    check = audit_chain.ChainCheck()
    assert [finding for line in lines for finding in check.take(audit_chain.from_line(line))] == []
    assert str(cast.other_organization.pk) not in {
        str(json.loads(json.loads(line)["content"])["organization"]) for line in lines
    }


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_the_usage_of_a_period(cast: Cast, format: str) -> None:
    ours = Tenant(cast.organization, cast.project, cast.owner_api_key)
    theirs = Tenant(cast.other_organization, cast.other_project, cast.stranger_api_key)
    days = [(ours, 1), (ours, 2), (ours, 3), (theirs, 2)]
    record_usage(
        [
            make_report(who, started_at=datetime(2026, 5, day, tzinfo=UTC).timestamp())
            for who, day in days
        ]
    )
    job = request_usage_export(
        cast.organization,
        datetime(2026, 5, 2, tzinfo=UTC),
        datetime(2026, 5, 3, tzinfo=UTC),
        format=format,
        acting_user=cast.owner,
    )
    text = exports.file_of(finished(job)).read_text()
    assert len(text.splitlines()) == 1 + (format == "csv")
    assert cast.project.public_id in text and cast.owner_api_key.public_id in text


def test_files_are_private_and_named_at_random(cast: Cast, folder: Path) -> None:
    job = finished(ask(cast))
    (path,) = folder.iterdir()
    assert path.name.startswith(job.public_id)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_who_may_fetch_it(cast: Cast) -> None:
    job = finished(ask(cast))
    for user in (cast.owner, cast.admin, cast.billing):
        assert exports.access_export(membership(cast.organization, user), job.public_id) == job
    for user in (cast.member, cast.viewer):
        with pytest.raises(AccessDenied):
            exports.access_export(membership(cast.organization, user), job.public_id)
    with pytest.raises(NotFound):
        exports.access_export(membership(cast.other_organization, cast.stranger), job.public_id)


def test_other_jobs_are_no_exports(cast: Cast) -> None:
    other = jobs.enqueue("test", "1", organization=cast.organization)
    with pytest.raises(NotFound):
        exports.access_export(membership(cast.organization, cast.owner), other.public_id)


def test_two_submissions_of_a_form_are_one(cast: Cast) -> None:
    first = ask(cast, request_id="form-1")
    assert ask(cast, request_id="form-1").pk == first.pk
    assert ask(cast, request_id="form-2").pk != first.pk


def test_so_many_at_once_and_no_more(cast: Cast) -> None:
    for _ in range(exports.MOST_OPEN):
        ask(cast)
    before = Job.objects.count()
    with pytest.raises(InvalidInput, match="under way"):
        ask(cast)
    with pytest.raises(InvalidInput, match="format"):
        ask(cast, "xlsx")
    assert Job.objects.count() == before


def test_no_file_before_its_end_nor_after_its_week(cast: Cast) -> None:
    job = ask(cast)
    with pytest.raises(NotFound):
        exports.file_of(job)
    job = finished(job)
    assert exports.file_of(job).exists()
    job.finished_at = timezone.now() - export_files.KEPT_FOR - timedelta(seconds=1)
    with pytest.raises(NotFound):
        exports.file_of(job)


def test_a_cancelled_export_leaves_no_file(cast: Cast, folder: Path) -> None:
    ask(cast)
    (job,) = jobs.claim("w")

    def report(done: int, total: int | None) -> None:
        if done:
            raise jobs.LeaseLost

    with pytest.raises(jobs.LeaseLost):
        exports.write_audit_export(job, report)
    assert list(folder.iterdir()) == []


def test_progress_goes_up_to_the_total(cast: Cast) -> None:
    ask(cast, "jsonl")
    (job,) = jobs.claim("w")
    told: list[tuple[int, int | None]] = []
    exports.write_audit_export(job, lambda done, total: told.append((done, total)))
    assert told[0][0] == 0 and told[-1][0] == told[-1][1]


def test_what_is_too_large_is_refused(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_files, "MOST_BYTES", 100)
    job = ask(cast)
    assert run_due_jobs() == ["failed"]
    job.refresh_from_db()
    assert "too large" in job.error


@pytest.mark.parametrize("name", ["../x.csv", "job_0123456789abcdef.1.csv/..", "job_x.csv", ""])
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        export_files.path_of(name)


def test_old_files_are_deleted(folder: Path) -> None:
    def lines() -> Iterator[str]:
        yield "a\n"

    old, new = (
        export_files.write_file(f"job_000000000000000{n}.1.csv", lines(), lambda rows: None).name
        for n in (1, 2)
    )
    (folder / "job_0000000000000003.1.csv.part").touch()
    week_ago = time.time() - export_files.KEPT_FOR.total_seconds() - 1
    for name in (old, "job_0000000000000003.1.csv.part"):
        os.utime(folder / name, (week_ago, week_ago))
    assert export_files.purge_files() == 2
    assert [path.name for path in folder.iterdir()] == [new]
