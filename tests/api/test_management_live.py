"""The real platform, over HTTP: what a program manages takes effect on the token path."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import openai
import pytest

from tests.harness.platform import CHAT_MODEL, Platform, wait_for

BODY = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}


def test_the_demo_manages_itself(simulated: Platform) -> None:
    admin = simulated.admin()
    name = f"Made at {time.time():.3f}"
    project = admin.projects.create(name=name)
    assert name in [found.name for found in admin.projects.list()]
    account = admin.projects.service_accounts.create(project.id, name="Robot")
    with simulated.http(account.api_key.value) as client:
        assert client.post("/v1/chat/completions", json=BODY).status_code == 200
        [key] = list(admin.projects.api_keys.list(project.id))
        admin.projects.api_keys.update(key.id, project_id=project.id, scopes=["models.read"])
        refused = wait_for(lambda: _status(client) == 403, 1.0)
        assert refused and client.get("/v1/models").status_code == 200
        admin.projects.service_accounts.delete(account.id, project_id=project.id)
        assert wait_for(lambda: _status(client) == 401, 1.0)
    other = simulated.admin(simulated.demo["SLUICE_OTHER_ADMIN_KEY"])
    with pytest.raises(openai.NotFoundError):
        other.projects.retrieve(project.id)


def _status(client: httpx.Client) -> int:
    return client.post("/v1/chat/completions", json=BODY).status_code


def test_usage_and_costs_are_those_of_the_answers(simulated: Platform) -> None:
    admin, start = simulated.admin(), int(time.time()) - 60
    project = admin.projects.create(name=f"Counted at {time.time():.3f}")
    account = admin.projects.service_accounts.create(project.id, name="Counter")
    told = 0
    with simulated.http(account.api_key.value) as client:
        for _ in range(3):
            told += client.post("/v1/chat/completions", json=BODY).json()["usage"]["total_tokens"]

    def counted() -> int:
        usage = admin.usage.completions(
            start_time=start, bucket_width="1m", project_ids=[project.id], group_by=["model"]
        )
        results = [result for bucket in usage.data for result in bucket.results]
        return sum(result.input_tokens + result.output_tokens for result in results)

    assert wait_for(lambda: counted() == told, 20)
    costs = admin.usage.costs(start_time=start, project_ids=[project.id], group_by=["line_item"])
    amounts = [result.amount.value for bucket in costs.data for result in bucket.results]
    assert amounts and all(amount > 0 for amount in amounts)


def test_the_edge_of_the_real_server(simulated: Platform) -> None:
    with simulated.http(simulated.demo["SLUICE_ADMIN_KEY"]) as client:
        large = client.post("/v1/organization/projects", content=b"a" * 400_000)
        assert large.status_code == 413
        assert client.get("/v1/projects/nothing/roles").status_code == 404
        assert client.post("/v1/chat/completions", json=BODY).status_code == 403
        assert client.get("/docs/api/").status_code == 200
        assert client.get("/v1/organization/openapi.json").json()["openapi"] == "3.1.0"
        assert (
            client.get("/v1/organization/users", headers={"Host": "evil.example"}).status_code
            == 400
        )


GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "api-management.md").read_text()
EXAMPLES = re.findall(r"<!-- runnable -->\n```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_guides_examples_run(simulated: Platform, example: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", example],
        env={**os.environ, **simulated.demo},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0 and result.stdout, result.stderr
