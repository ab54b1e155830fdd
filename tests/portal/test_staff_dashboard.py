"""The staff admin's first page: figures, what is so now, and calm when Redis is away."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.conf import settings
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.models import UsageEvent
from inference import wire
from tenants.jobs import count_endings
from tenants.models import AuditEvent, Job
from tests.cast import Cast, make_user
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def used(cast: Cast, valkey: redis.Redis) -> Cast:
    """Ten requests of Acme within the hour, one failed; a replica; a failed job."""
    now = timezone.now()
    UsageEvent.objects.bulk_create(
        UsageEvent(
            request_id=f"req_{number}",
            organization=cast.organization,
            project=cast.project,
            model="smol",
            endpoint="chat.completions",
            status="failed" if number == 0 else "completed",
            source="gateway",
            prompt_tokens=1_000,
            completion_tokens=500,
            started_at=now - timedelta(seconds=30),
            duration_ms=900,
            time_to_first_token_ms=200,
            cost_micros=50_000,
        )
        for number in range(10)
    )
    said = wire.Heartbeat(
        "chat-1", "x", 1, 1, "draining", "simulated", "n", time.time(), running=3, waiting=2
    )
    valkey.xadd(wire.HEARTBEATS, {b"h": wire.encode(said)})
    Job.objects.create(kind="k", effect_key="e", state="failed", finished_at=now)
    return cast


def test_the_figures_are_those_of_the_period(used: Cast) -> None:
    client = log_in(used.staff)
    html = client.get("/admin/").content.decode()
    context = client.get("/admin/", {"period": "1h"}).context

    for shown in ("Requests", "10.0 %", "$0.50", "Acme", "chat-1", "Draining", "100.0 %"):
        assert shown in html, shown
    assert (context["requests"], context["jobs_failed"]) == (10, 1)
    assert context["wait_p50"] == context["wait_p95"]
    assert int(context["wait_p50"].removesuffix(" ms")) == pytest.approx(200, rel=0.05)
    assert (context["fleet"].draining, context["fleet"].waiting) == (1, 2)
    assert sum(context["requests_spark"]) == 10
    assert client.get("/admin/", {"period": "century"}).context["period"] == "24h"


def test_it_costs_the_same_however_much_was_used(used: Cast) -> None:
    client = log_in(used.staff)
    client.get("/admin/")  # leaves the look at organizations on record, once an hour
    with CaptureQueriesContext(connection) as queries:
        client.get("/admin/")
    # session, user; sums, customers, their names; the look: savepoint, lock, question, release;
    # replicas' rows; jobs ended, ended before, open, oldest; batches
    assert len(queries) == 15


def test_seeing_names_of_organizations_is_a_look(used: Cast) -> None:
    client = log_in(used.staff)
    client.get("/admin/")
    client.get("/admin/")
    looks = AuditEvent.objects.filter(action="staff.viewed", object_type="organization_list")
    assert looks.count() == 1


def test_lesser_staff_see_what_their_lists_would_show(used: Cast) -> None:
    helper = make_user("helper", is_staff=True)
    client = log_in(helper)
    html = client.get("/admin/").content.decode()
    assert "Acme" not in html and "Charged" not in html and "chat-1" not in html
    helper.user_permissions.set(Permission.objects.filter(codename="view_replica"))
    html = client.get("/admin/").content.decode()
    assert "chat-1" in html and "Acme" not in html and "Charged" not in html
    assert log_in(used.owner).get("/admin/", follow=True).status_code == 403


def test_without_redis_the_page_is_calm(used: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:1/0")
    answer = log_in(used.staff).get("/admin/")
    html = answer.content.decode()
    assert answer.status_code == 200
    assert "Redis does not answer" in html and "$0.50" in html and "chat-1" not in html


def test_jobs_that_ended_are_counted_by_their_end(cast: Cast) -> None:
    now = timezone.now()
    for number, (state, ago) in enumerate((("failed", 1), ("succeeded", 2), ("failed", 90))):
        ended: dict[str, Any] = {"state": state, "finished_at": now - timedelta(minutes=ago)}
        Job.objects.create(kind="k", effect_key=str(number), **ended)
    hour = timedelta(hours=1)
    assert count_endings(now - hour, now).failed == 1
    assert count_endings(now - hour, now).finished == 2
    assert count_endings(now - 2 * hour, now - hour).failed == 1
