"""Usage, its requests and limits: what adds up, what is found, and whose it is."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.models import UsageEvent
from portal import periods
from tenants import actions
from tenants.models import ApiKey, Organization, Project
from tests.cast import Cast
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db

PAGES = ("usage/", "usage/requests/", "usage/limits/", "live/")


def url(cast: Cast, path: str = "usage/") -> str:
    return f"/o/{cast.organization.public_id}/{path}"


def add(key: ApiKey, count: int = 1, **changes: Any) -> None:
    """Requests that began a minute apart, the newest first; ``prefix`` begins their ids."""
    prefix, now = changes.pop("prefix", f"req_{key.pk}_"), timezone.now()
    fields = {
        "organization": key.organization, "project": key.project, "api_key": key,
        "model": "small", "endpoint": "chat.completions", "status": "completed",
        "source": "gateway", "prompt_tokens": 1_000, "cached_tokens": 100,
        "completion_tokens": 50, "duration_ms": 900, "cost_micros": 1_500,
        "time_to_first_token_ms": 120, "engine_us": 44_000,
    } | changes  # fmt: skip
    UsageEvent.objects.bulk_create(
        UsageEvent(
            **{"request_id": f"{prefix}{number}", "started_at": now - timedelta(minutes=number)}
            | fields
        )
        for number in range(count)
    )


def requests_in(html: str) -> list[str]:
    return re.findall(r'data-request="([^"]+)"', html)


def get(cast: Cast, who: str, path: str, **query: str) -> str:
    page = log_in(getattr(cast, who)).get(url(cast, path), query)
    assert page.status_code == 200, page.status_code
    return page.content.decode()


@pytest.mark.parametrize("path", PAGES)
def test_strangers_learn_nothing_and_members_see_only_their_own(cast: Cast, path: str) -> None:
    add(cast.owner_api_key)
    add(cast.stranger_api_key, 40, model="their-model")
    assert log_in(cast.stranger).get(url(cast, path)).status_code == 404
    html = get(cast, "viewer", path)
    assert f"req_{cast.stranger_api_key.pk}_" not in html and "their-model" not in html


@pytest.mark.parametrize("metric", ["requests", "input", "output", "cached", "cost", "errors",
                                    "wait", "nonsense"])  # fmt: skip
def test_every_metric_is_drawn_and_what_is_drawn_is_written(cast: Cast, metric: str) -> None:
    add(cast.owner_api_key, 3)
    add(cast.owner_api_key, 2, prefix="bad_", status="failed", model="large")
    page = log_in(cast.viewer).get(url(cast), {"metric": metric, "by": "model"})
    chart = page.context["chart"]
    drawn = {
        (cell.label, cell.text)
        for slot in chart.slots
        for cell in slot.cells
        if cell.text not in {"0", "–", "$0.00"}
    }
    assert drawn == {
        "input": {("small", "3,000"), ("large", "2,000")},
        "output": {("small", "150"), ("large", "100")},
        "cached": {("small", "300"), ("large", "200")},
        "cost": {("small", "$0.0045"), ("large", "$0.003")},
        "errors": {("large", "2")},
        "wait": {("Median", "120 ms"), ("95th percentile", "120 ms")},
    }.get(metric, {("small", "3"), ("large", "2")})
    html = page.content.decode()
    assert all(text in html for _, text in drawn)
    assert "5,000" in html and "40.0 %" in html


@pytest.mark.parametrize(
    "by,labels",
    [
        ("model", ["large", "small"]),
        ("project", ["Default project", "Second"]),
        ("key", ["Owner&#x27;s key", "Second&#x27;s", "Worker&#x27;s"]),
        ("user", ["Owner", "Worker", "In the portal"]),
        ("total", []),
    ],
)
def test_each_split_adds_up_and_leads_to_its_own(cast: Cast, by: str, labels: list[str]) -> None:
    second = actions.create_project(cast.organization, "Second", acting_user=cast.owner)
    account = actions.create_service_account(second, "Worker", acting_user=cast.owner)
    key, _ = actions.create_api_key(second, "Second's", acting_user=cast.owner)
    worker, _ = actions.create_api_key(account, "Worker's", acting_user=cast.owner)
    add(cast.owner_api_key, 4)
    add(key, 3, model="large")
    add(worker, 2)
    add(worker, 1, prefix="portal_", api_key=None)
    client = log_in(cast.viewer)
    page = client.get(url(cast), {"by": by})
    assert page.context["view"].now.total.requests == 10
    lines = page.context["lines"]
    html = page.content.decode()
    assert all(f">{label}</a>" in html for label in labels)
    for line in lines:
        if line.url:
            alone = client.get(url(cast) + line.url).context["view"].now.total
            assert alone == line.sums, line.label
    assert sum(line.sums.requests for line in lines) == (10 if lines else 0)


def test_a_period_is_compared_with_the_one_before(cast: Cast) -> None:
    now = timezone.now()
    for number, days in enumerate((1, 2, 3, 8, 9, 20)):
        add(cast.owner_api_key, 1, prefix=f"at{number}_", started_at=now - timedelta(days=days))
    view = log_in(cast.viewer).get(url(cast), {"period": "7d", "by": "total"}).context
    requests = view["tiles"][0]
    assert (requests.change.now, requests.change.before) == (3, 2)
    assert [series for series in view["chart"].series] == ["This period", "The one before"]
    earlier = [int(slot.cells[1].text) for slot in view["chart"].slots if slot.cells[1].text != "–"]
    assert sum(earlier) == 2
    hours = log_in(cast.viewer).get(url(cast), {"period": "7d", "step": "hour"}).context["chart"]
    assert len(hours.slots) in (168, 169)


def test_a_month_is_compared_with_the_same_part_of_the_last() -> None:
    now = timezone.now().replace(month=3, day=31, hour=12)
    month = periods.read_period("month", now)
    before = month.before()
    assert (before.start.month, before.start.day) == (2, 1)
    assert before.end == month.start, "February had no 31st day"
    now = now.replace(day=3)
    assert periods.read_period("month", now).before().end == now.replace(month=2)


@pytest.mark.parametrize("path", ["usage/", "usage/requests/"])
@pytest.mark.parametrize(
    "query",
    [
        {"key": "key_of_somebody"},
        {"project": "\x00"},
        {"user": "é" * 500},
        {"model": "x" * 500},
        {"period": "\x00", "step": "year", "by": "'", "metric": "\x00"},
        {"after": "\x00", "before": "nothing"},
        {"q": "req_\x00"},
        {"q": "x" * 300},
        {"status": "great"},
    ],
)
def test_bad_questions_are_told_beside_their_fields(
    cast: Cast, path: str, query: dict[str, str]
) -> None:
    add(cast.owner_api_key)
    page = log_in(cast.viewer).get(url(cast, path), query)
    assert page.status_code in (200, 400)
    if page.context["form"].errors:
        assert "errors" in page.content.decode()


def test_a_foreign_key_is_no_filter(cast: Cast) -> None:
    add(cast.owner_api_key, 2)
    add(cast.stranger_api_key, 5)
    page = log_in(cast.viewer).get(url(cast), {"key": cast.stranger_api_key.public_id})
    assert page.context["form"].errors["key"]
    assert page.context["view"].now.total.requests == 2


def test_requests_are_walked_by_cursor_to_the_end_and_back(cast: Cast) -> None:
    add(cast.owner_api_key, 120)
    client = log_in(cast.viewer)
    seen: list[str] = []
    query: dict[str, str] = {}
    for _ in range(5):
        page = client.get(url(cast, "usage/requests/"), query)
        seen += requests_in(page.content.decode())
        if not page.context["older"]:
            break
        query = {"after": page.context["older"]}
    assert seen == [f"req_{cast.owner_api_key.pk}_{number}" for number in range(120)]
    back = client.get(url(cast, "usage/requests/"), {"before": seen[100]})
    assert requests_in(back.content.decode()) == seen[50:100]


def test_requests_are_filtered_and_found_by_their_id(cast: Cast) -> None:
    add(cast.owner_api_key, 3)
    add(
        cast.owner_api_key,
        1,
        prefix="bad_",
        status="failed",
        started_at=timezone.now() - timedelta(days=50),
    )
    add(cast.stranger_api_key, 1, prefix="theirs_")
    client, page = log_in(cast.viewer), url(cast, "usage/requests/")
    assert requests_in(client.get(page, {"status": "failed"}).content.decode()) == []
    found = client.get(page, {"q": " bad_0 "})
    assert found["Location"] == f"{page}bad_0/", "however old"
    for absent in ("theirs_0", "nothing"):
        assert "Nothing matches" in client.get(page, {"q": absent}).content.decode()
    wanted = {"key": cast.owner_api_key.public_id, "model": "small", "status": "completed",
              "project": cast.project.public_id, "user": cast.owner.public_id}  # fmt: skip
    assert len(requests_in(client.get(page, wanted).content.decode())) == 3
    assert requests_in(client.get(page, wanted | {"model": "large"}).content.decode()) == []


def test_one_request_shows_what_was_counted(cast: Cast) -> None:
    add(cast.owner_api_key, prefix="one_", flags=["pii"], tier="flex")
    add(cast.stranger_api_key, prefix="theirs_")
    html = get(cast, "viewer", "usage/requests/one_0/")
    for text in ("one_0", "small", "chat.completions", "120 ms", "900 ms", "44 ms", "1,000", "$0.001500",
                 "100 from a cache", "Owner&#x27;s key", "owner@example.com", "pii", "Flex"):  # fmt: skip
        assert text in html, text
    client = log_in(cast.viewer)
    assert client.get(url(cast, "usage/requests/theirs_0/")).status_code == 404
    assert client.get(url(cast, f"usage/requests/{'x' * 200}/")).status_code == 404


def test_the_file_has_what_the_filter_asks_for(cast: Cast) -> None:
    ApiKey.objects.filter(pk=cast.owner_api_key.pk).update(name="=cmd()")
    add(cast.owner_api_key, 205)
    add(cast.owner_api_key, 3, prefix="bad_", status="failed")
    add(cast.stranger_api_key, 7)
    client = log_in(cast.viewer)
    answer = client.get(url(cast, "usage/requests/export.csv"), {"status": "completed"})
    assert answer["Content-Type"].startswith("text/csv") and answer.streaming
    text = b"".join(answer.streaming_content).decode()  # type: ignore[arg-type]
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["request_id"] for row in rows] == [
        f"req_{cast.owner_api_key.pk}_{number}" for number in range(205)
    ]
    assert {row["status"] for row in rows} == {"completed"}
    assert log_in(cast.stranger).get(answer.request["PATH_INFO"]).status_code == 404


def test_limits_and_how_close_they_are(cast: Cast) -> None:
    plan = cast.organization.plan
    plan.monthly_tokens = 10_000
    plan.save()
    Project.objects.filter(pk=cast.project.pk).update(monthly_budget_micros=2_000_000)
    add(cast.owner_api_key, 4, cost_micros=500_000, started_at=timezone.now())
    html = get(cast, "viewer", "usage/limits/")
    assert "4,200 of 10,000" in html
    assert "0 of 10,000" in html, "requests a minute"
    assert '<progress class="bad" max="2000000" value="2000000"' in html
    assert "$2.00 of $2.00" in html


@pytest.mark.parametrize("path", ["", *PAGES])
def test_without_redis_pages_are_calm(cast: Cast, path: str, settings: Any) -> None:
    add(cast.owner_api_key, 2)
    settings.REDIS_URL, settings.REDIS_TIMEOUT_S = "redis://127.0.0.1:1/0", 0.2
    html = get(cast, "viewer", path)
    if path in ("", "usage/", "live/"):
        assert "Not live right now" in html and 'data-sequence=""' in html
        assert len(requests_in(html)) == 2
    if path in ("", "usage/limits/"):
        assert "cannot be read" in html and "up to 10,000" in html


@pytest.mark.parametrize("path", ["", *PAGES])
def test_pages_ask_as_often_for_many_requests(cast: Cast, path: str) -> None:
    add(cast.owner_api_key, 1)
    add(cast.stranger_api_key, 30)

    def queries(who: str, organization: Organization) -> int:
        client = log_in(getattr(cast, who))
        page = f"/o/{organization.public_id}/{path}"
        client.get(page)  # remembers the organization in the session, once
        with CaptureQueriesContext(connection) as captured:
            client.get(page)
        return len(captured)

    few = queries("owner", cast.organization)
    assert few == queries("stranger", cast.other_organization)
    assert few <= 24
