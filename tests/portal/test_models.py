"""The model catalogue: what an organization may call, with prices, limits, state and speed."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis import Redis

from billing.actions import add_price
from billing.models import UsageEvent
from billing.speed import get_speeds
from inference import wire
from inference.catalogue import get_catalogue
from inference.models import Deployment, Model, ModelAlias, ModelVersion
from tenants.models import Organization, PlanModelLimit
from tests.cast import Cast
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db


def deploy(name: str, kind: str = "chat", **fields: Any) -> Deployment:
    model = Model.objects.create(name=name, kind=kind, description=f"About {name}.")
    version = ModelVersion.objects.create(
        model=model, version="v1", source_uri="pypi://x", max_context_tokens=8_192,
        sha256="ab" * 32, **{"tool_parser": "hermes"} if kind == "chat" else {},
        embedding_dimensions=None if kind == "chat" else 384,
    )  # fmt: skip
    slug = name.replace("/", "-").replace(".", "-")
    return Deployment.objects.create(name=slug, version=version, **fields)


def url(cast: Cast, path: str = "") -> str:
    return f"/o/{cast.organization.public_id}/models/{path}"


def beat(valkey: Redis, deployment: Deployment, state: str = "ready") -> None:
    heartbeat = wire.Heartbeat(
        replica=f"{deployment.name}-1", incarnation="1", deployment=deployment.pk, version=1,
        state=state, engine="simulated", node="here", running=0, waiting=0, capacity=8,
        kv_cache_usage=0.0, tokens_per_second=0.0, started_at=time.time(),
    )  # fmt: skip
    valkey.xadd(wire.HEARTBEATS, {b"h": wire.encode(heartbeat)})


def use(organization: Organization, model: str, *waits: int, **fields: Any) -> None:
    key = organization.api_keys.get(kind="project")
    UsageEvent.objects.bulk_create(
        UsageEvent(
            **{
                "request_id": f"req_{model}_{organization.pk}_{wait}_{len(fields)}",
                "organization": organization,
                "project": key.project,
                "api_key": key,
                "model": model,
                "endpoint": "chat.completions",
                "status": "completed",
                "source": "gateway",
                "prompt_tokens": 10,
                "completion_tokens": 101,
                "started_at": timezone.now() - timedelta(minutes=5),
                "time_to_first_token_ms": wait,
                "duration_ms": wait + 2_000,
                "cost_micros": 0,
            }
            | fields
        )
        for wait in waits
    )


def test_a_model_tells_what_it_does_costs_and_how_it_fares(cast: Cast, valkey: Redis) -> None:
    deployment = deploy("meta/llama-3.1:8b")
    ModelAlias.objects.create(name="llama", model=deployment.version.model)
    add_price(
        "meta/llama-3.1:8b", input_micros_per_million=2_000_000,
        cached_input_micros_per_million=500_000, output_micros_per_million=4_250_000,
        priority_percent=200, flex_percent=50, batch_percent=40, acting_user=None,
    )  # fmt: skip
    PlanModelLimit.objects.create(
        plan=cast.organization.plan, model="meta/llama-3.1:8b", tokens_per_minute=54_321
    )
    beat(valkey, deployment)
    use(cast.organization, "meta/llama-3.1:8b", *range(100, 200))
    client = log_in(cast.viewer)
    page = client.get(url(cast, "meta/llama-3.1:8b/"))
    html = page.content.decode()
    for told in ("8,192", "About meta/llama-3.1:8b.", "1 replica ready", "Tools", "Structured output",
                 "54,321", "10,000", "149 ms", "194 ms", "$8.50", "$1.70", "$0.50", "ab" * 32,
                 "/v1/responses", "chat.completions.create"):  # fmt: skip
        assert told in html, told
    # 100 tokens after the first one, in two seconds.
    assert page.context["row"].speed.tokens_per_s == pytest.approx(50)
    assert "Reasoning" not in html
    assert client.get(url(cast, "llama/")).status_code == 200
    listed = client.get(url(cast)).content.decode()
    assert "Available" in listed
    assert "$4.25" in listed


def test_only_what_this_organization_is_served_is_listed(cast: Cast) -> None:
    deploy("everybodys")
    deploy("ours", dedicated_to=cast.organization)
    deploy("theirs", dedicated_to=cast.other_organization)
    deploy("off", is_enabled=False)
    hidden = deploy("hidden").version.model
    Model.objects.filter(pk=hidden.pk).update(is_enabled=False)
    assert [each.name for each in get_catalogue(cast.organization)] == ["everybodys", "ours"]
    client = log_in(cast.owner)
    html = client.get(url(cast)).content.decode()
    assert "Dedicated" in html
    for name in ("theirs", "off", "hidden"):
        assert client.get(url(cast, f"{name}/")).status_code == 404
        assert f"models/{name}/" not in html
    assert log_in(cast.stranger).get(url(cast, "ours/")).status_code == 404
    assert log_in(cast.stranger).get(url(cast)).status_code == 404


def test_the_state_is_the_fleets(cast: Cast, valkey: Redis, settings: Any) -> None:
    deployment = deploy("tiny")
    client = log_in(cast.owner)
    assert "No replica is ready." in client.get(url(cast, "tiny/")).content.decode()
    beat(valkey, deployment, "draining")
    assert "No replica is ready." in client.get(url(cast, "tiny/")).content.decode()
    model = deployment.version.model
    model.fallback = Model.objects.create(name="other", kind="chat")
    model.save()
    assert "Its fallback other answers" in client.get(url(cast, "tiny/")).content.decode()
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    calm = client.get(url(cast, "tiny/"))
    assert calm.status_code == 200
    assert "cannot be heard right now" in calm.content.decode()


def test_embeddings_and_cross_encoders(cast: Cast, settings: Any, tmp_path: Path) -> None:
    settings.MODEL_STORE = tmp_path
    deploy("vectors", "embedding")
    scorer = deploy("scorer", "embedding").version
    scorer.path = "scorer"
    scorer.save()
    (tmp_path / "scorer").mkdir()
    config = '{"architectures": ["BertForSequenceClassification"], "num_labels": 1}'
    (tmp_path / "scorer" / "config.json").write_text(config)
    found = {each.name: each.capabilities for each in get_catalogue(cast.organization)}
    assert found == {
        "scorer": ("rerank", "score"),
        "vectors": ("embeddings", "rerank", "score"),
    }
    client = log_in(cast.owner)
    assert "embeddings.create" in client.get(url(cast, "vectors/")).content.decode()
    assert "/v1/rerank" in client.get(url(cast, "scorer/")).content.decode()
    (tmp_path / "scorer" / "config.json").write_text("broken")
    assert client.get(url(cast)).status_code == 200


def test_speed_is_of_ones_own_answers_within_the_hour(cast: Cast) -> None:
    own = cast.organization
    use(own, "tiny", 10, 20, 30)
    use(own, "tiny", 9_001, started_at=timezone.now() - timedelta(hours=2))
    use(own, "tiny", 9_002, cache_hit=True)
    use(own, "tiny", 9_003, status="failed")
    use(own, "tiny", 9_004, tier="batch")
    use(cast.other_organization, "tiny", 9_005)
    use(own, "vectors", 0, time_to_first_token_ms=None, completion_tokens=0)
    speeds = get_speeds(own, timezone.now() - timedelta(hours=1))
    assert (speeds["tiny"].requests, speeds["tiny"].median_ms, speeds["tiny"].p95_ms) == (3, 20, 30)
    assert (speeds["vectors"].median_ms, speeds["vectors"].tokens_per_s) == (None, None)


def test_the_list_sorts_filters_and_asks_the_same_of_many(cast: Cast) -> None:
    client = log_in(cast.owner)
    deploy("b")
    deploy("a", "embedding")
    client.get(url(cast))

    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(url(cast)).status_code == 200
        return len(queries)

    before = asked()
    for number in range(6):
        deploy(f"more-{number}")
    assert asked() == before <= 14

    def names(query: str) -> list[str]:
        return [row.name for row in client.get(f"{url(cast)}?{query}").context["models"].rows]

    assert names("q=A&can=embeddings") == ["a"]
    assert names("can=tools&sort=-name")[-1] == "b"
    assert names("q=nothing") == []
    assert len(names("can=unknown&sort=-output&page=x")) == 8
