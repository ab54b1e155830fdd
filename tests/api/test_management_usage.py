"""Usage and costs: their sums are the rows', however they are cut, grouped and paged."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from api.chat_completions import handler as chat
from api.completions import handler as completions
from api.embeddings import handler as embeddings
from api.messages import handler as messages
from billing.buckets import COMPLETIONS, EMBEDDINGS
from billing.models import UsageEvent
from tenants import actions
from tests.api.management import Caller
from tests.cast import Cast

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
START, END = (
    int((NOON - timedelta(days=3)).timestamp()),
    int((NOON + timedelta(days=2)).timestamp()),
)
COUNTED = itertools.count()


def use(cast: Cast, at: datetime, **fields: Any) -> UsageEvent:
    key = fields.pop("key", cast.owner_api_key)
    values = {
        "request_id": f"r{next(COUNTED)}", "organization": key.organization,
        "project": key.project, "api_key": key, "model": "m", "endpoint": chat.ENDPOINT,
        "status": "completed", "source": "gateway", "prompt_tokens": 10, "cached_tokens": 4,
        "completion_tokens": 3, "started_at": at, "duration_ms": 5, "cost_micros": 7, **fields,
    }  # fmt: skip
    return UsageEvent.objects.create(**values)


@pytest.fixture
def used(cast: Cast) -> list[UsageEvent]:
    """Of two projects, keys and models, around midnights and the edges of the range."""
    project = actions.create_project(cast.organization, "Second", acting_user=cast.owner)
    second, _ = actions.create_api_key(project, "S", acting_user=cast.member)
    rows = []
    for hours in (-72, -71, -36, -12.0003, -12, 0, 0.01, 11.9999, 12, 47.9):
        at = NOON + timedelta(hours=hours)
        rows.append(use(cast, at, cost_micros=int(abs(hours)) + 1))
        in_batch = {"key": second, "model": "n", "prompt_tokens": 5, "tier": "batch"}
        rows.append(use(cast, at, cached_tokens=0, **in_batch))
        rows.append(use(cast, at, model="e", endpoint=embeddings.ENDPOINT, completion_tokens=0))
        use(cast, at, key=cast.stranger_api_key)
    for edge in (START - 1, END):
        use(cast, datetime.fromtimestamp(edge, UTC))
    return rows


def walk(caller: Caller, path: str) -> list[dict[str, Any]]:
    buckets, page = [], ""
    while True:
        answer = caller.get(f"{path}{page}")
        buckets += answer["data"]
        if not answer["has_more"]:
            assert answer["next_page"] is None
            return buckets
        page = f"&page={answer['next_page']}"


RANGE = f"start_time={START}&end_time={END}"
GROUPS = [
    (), ("project_id",), ("api_key_id", "model"), ("user_id",), ("project_id", "batch"),
    ("service_tier",),
]  # fmt: skip


@pytest.mark.parametrize("width", ["1m", "1h", "1d"])
@pytest.mark.parametrize("groups", GROUPS)
def test_sums_are_the_rows(owner: Caller, used: list[UsageEvent], width: str, groups: Any) -> None:
    limit = {"1m": 1440, "1h": 50, "1d": 2}[width]
    query = f"?{RANGE}&bucket_width={width}&limit={limit}" + "".join(
        f"&group_by[]={name}" for name in groups
    )
    buckets = walk(owner, f"/usage/completions{query}")
    rows = [row for row in used if row.endpoint != embeddings.ENDPOINT]
    results = [result for bucket in buckets for result in bucket["results"]]
    assert sum(r["input_tokens"] for r in results) == sum(row.prompt_tokens for row in rows)
    assert sum(r["output_tokens"] for r in results) == sum(row.completion_tokens for row in rows)
    assert sum(r["input_cached_tokens"] for r in results) == sum(row.cached_tokens for row in rows)
    assert sum(r["num_model_requests"] for r in results) == len(rows)
    assert (buckets[0]["start_time"], buckets[-1]["end_time"]) == (START, END)
    for before, after in itertools.pairwise(buckets):
        assert before["end_time"] == after["start_time"]
    for result in results:
        for name in ("project_id", "api_key_id", "model", "user_id"):
            assert (result[name] is not None) == (name in groups)
        # Project and tier say which rows these are: in batches the second project's.
        is_batch = result["input_tokens"] == 5 * result["num_model_requests"]
        assert result["batch"] is (is_batch if "batch" in groups else None)
        tier = "batch" if is_batch else "default"
        assert result["service_tier"] == (tier if "service_tier" in groups else None)


def test_each_bucket_has_its_own_rows(owner: Caller, used: list[UsageEvent]) -> None:
    for bucket in walk(owner, f"/usage/embeddings?{RANGE}&bucket_width=1h&limit=168"):
        inside = [
            row for row in used
            if row.model == "e"
            and bucket["start_time"] <= row.started_at.timestamp() < bucket["end_time"]
        ]  # fmt: skip
        assert sum(r["num_model_requests"] for r in bucket["results"]) == len(inside)


def test_filters(owner: Caller, used: list[UsageEvent], cast: Cast) -> None:
    def requests(query: str) -> int:
        buckets = walk(owner, f"/usage/completions?{RANGE}&{query}")
        return sum(r["num_model_requests"] for b in buckets for r in b["results"])

    assert requests("models[]=n") == 10 == requests(f"user_ids[]={cast.member.public_id}")
    assert requests(f"project_ids[]={cast.project.public_id}") == 10
    assert requests(f"api_key_ids[]={cast.owner_api_key.public_id}&models[]=n") == 0
    assert requests(f"api_key_ids[]={cast.stranger_api_key.public_id}") == 0
    assert requests(f"project_ids[]={cast.other_project.public_id}") == 0
    assert requests("batch=true") == 10 == requests("batch=false")


@pytest.mark.parametrize("group", ["", "project_id", "line_item", "api_key_id"])
def test_costs_are_the_ledgers_to_the_micro_dollar(
    owner: Caller, used: list[UsageEvent], group: str
) -> None:
    query = f"?{RANGE}&limit=2" + (f"&group_by[]={group}" if group else "")
    results = [r for b in walk(owner, f"/costs{query}") for r in b["results"]]
    total = sum(Decimal(str(r["amount"]["value"])) for r in results)
    assert total * 1_000_000 == sum(row.cost_micros for row in used)
    assert {r["amount"]["currency"] for r in results} == {"usd"}
    if group == "line_item":
        assert {r["line_item"] for r in results} == {"m", "n", "e"}
        assert sum(r["quantity"] for r in results) == sum(row.total_tokens for row in used)


def test_a_micro_dollar_is_not_lost(owner: Caller, cast: Cast) -> None:
    use(cast, NOON, cost_micros=123_456_789_000_001)
    response = owner.send("GET", f"/costs?{RANGE}")
    assert b'"value":123456789.000001' in response.content.replace(b" ", b"")


def test_what_does_not_exist_is_truthfully_empty(owner: Caller, used: list[UsageEvent]) -> None:
    for kind in ("images", "moderations", "audio_speeches", "vector_stores", "web_search_calls"):
        buckets = walk(owner, f"/usage/{kind}?{RANGE}&limit=2")
        assert len(buckets) == 6 and not any(bucket["results"] for bucket in buckets)
    owner.get(f"/usage/nothing?{RANGE}", 404)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("", "start_time"), (f"start_time={END}&end_time={START}", "end_time"),
        (f"{RANGE}&limit=32", "limit"), (f"{RANGE}&bucket_width=1w", "bucket_width"),
        (f"{RANGE}&page=page_1", "page"), (f"{RANGE}&page=x", "page"),
        (f"{RANGE}&group_by[]=colour", "group_by[0]"), ("start_time=-1", "start_time"),
        (f"start_time={10**15}", "start_time"),
    ],
)  # fmt: skip
def test_queries_that_make_no_sense(owner: Caller, query: str, param: str) -> None:
    assert owner.get(f"/usage/completions?{query}", 400)["param"] == param


def test_endpoints_are_called_what_the_handlers_call_them() -> None:
    assert (chat.ENDPOINT, completions.ENDPOINT, messages.ENDPOINT) == COMPLETIONS
    assert (embeddings.ENDPOINT, "rerank", "score") == EMBEDDINGS  # the scoring handler's two


def test_one_statement_whatever_is_asked(owner: Caller, used: list[UsageEvent]) -> None:
    owner.get("/projects")
    groups = "".join(f"&group_by[]={n}" for n in ("project_id", "user_id", "api_key_id", "model"))
    with CaptureQueriesContext(connection) as queries:
        owner.get(f"/usage/completions?{RANGE}{groups}&limit=31")
    assert len(queries) == 3, [query["sql"] for query in queries]
