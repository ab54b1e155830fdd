"""Keys that stop within a second, limits that refuse with the truth, tenants apart."""

from __future__ import annotations

import time

import httpx
import openai
import pytest

from tests.harness.platform import CHAT_MODEL, Platform, wait_for

BODY = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
CHAT = "/v1/chat/completions"

NEW_KEY = """
from tenants.models import Organization, Project, ApiKey, Plan
from tenants import actions
organization = Organization.objects.get(name="Acme")
key, text = actions.create_api_key(organization.projects.first(), "{name}", acting_user=None)
ApiKey.objects.filter(pk=key.pk).update({limits})
print(text, key.public_id)
"""


def new_key(platform: Platform, name: str, limits: str = "revoked_at=None") -> tuple[str, str]:
    out = platform.manage("shell", "-v", "0", "-c", NEW_KEY.format(name=name, limits=limits))
    text, public_id = out.split()[-2:]
    return text, public_id


def shell(platform: Platform, *lines: str) -> None:
    head = "from tenants.models import *; from tenants import actions; "
    platform.manage("shell", "-v", "0", "-c", head + "; ".join(lines))


def test_a_revoked_key_stops_within_a_second(simulated: Platform) -> None:
    key, public_id = new_key(simulated, "to revoke")
    with simulated.http(key) as client:
        assert client.post(CHAT, json=BODY).status_code == 200
        shell(
            simulated,
            f"actions.revoke_api_key(ApiKey.objects.get(public_id='{public_id}'), acting_user=None)",
        )
        # The command's own exit took longer than the notice; it must be refused by now.
        deadline = time.monotonic() + 1
        while (status := client.post(CHAT, json=BODY).status_code) != 401:
            assert time.monotonic() < deadline, status
            time.sleep(0.02)


def test_a_suspended_organization_is_refused_and_restored(simulated: Platform) -> None:
    with simulated.http(simulated.other_key) as client:
        assert client.post(CHAT, json=BODY).status_code == 200
        for suspended, status in ((True, 403), (False, 200)):
            shell(
                simulated,
                "o = Organization.objects.get(name='Globex')",
                f"actions.set_organization_suspended(o, {suspended}, acting_user=None)",
            )
            wait_for(lambda: client.post(CHAT, json=BODY).status_code == status, 1.5)  # noqa: B023


def test_requests_a_minute_refuse_with_exact_headers(simulated: Platform) -> None:
    key, _ = new_key(simulated, "rpm", "requests_per_minute=120")
    with simulated.http(key) as client:
        answers = [client.post(CHAT, json=BODY) for _ in range(130)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        answer = refused[-1]
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert answer.headers["x-ratelimit-limit-requests"] == "120"
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        wait_s = int(answer.headers["retry-after-ms"]) / 1000
        assert 0 < wait_s <= 0.51
        assert int(answer.headers["retry-after"]) == 1
        time.sleep(wait_s)
        assert client.post(CHAT, json=BODY).status_code == 200


def test_a_monthly_quota_counts_what_was_used(simulated: Platform) -> None:
    key, _ = new_key(simulated, "quota", "monthly_tokens=300")
    used, refused = 0, None
    with simulated.http(key) as client:
        for _ in range(20):
            answer = client.post(CHAT, json=BODY)
            if answer.status_code != 200:
                refused = answer
                break
            used += answer.json()["usage"]["total_tokens"]
    assert refused is not None
    assert refused.json()["error"]["code"] == "insufficient_quota"
    one = used // max(1, used // 30)
    assert 300 - 2 * one < used <= 300


def test_a_refusal_in_the_official_client(simulated: Platform) -> None:
    key, _ = new_key(simulated, "none", "concurrent_requests=0")
    with pytest.raises(openai.RateLimitError) as caught:
        simulated.openai(key).chat.completions.create(**BODY)  # type: ignore[call-overload]
    assert caught.value.code == "rate_limit_exceeded"


def test_concurrency_is_free_again_when_the_answer_ends(simulated: Platform) -> None:
    key, _ = new_key(simulated, "one at a time", "concurrent_requests=1")
    with simulated.http(key) as client:
        for number in range(40):
            body = {**BODY, "stream": bool(number % 2)}
            assert client.post(CHAT, json=body).status_code == 200


def test_service_pages(simulated: Platform) -> None:
    assert httpx.get(f"{simulated.url}/healthz", timeout=5).text == "ok\n"
    assert httpx.get(f"{simulated.url}/readyz", timeout=5).text == "ready\n"
    metrics = httpx.get(f"{simulated.url}/metrics", timeout=5).text
    for name in ("gen_ai_server_request_duration_seconds", "sluice_gateway_overhead_seconds"):
        assert name in metrics
    proxied = httpx.get(
        f"{simulated.url}/metrics", headers={"X-Forwarded-For": "203.0.113.9"}, timeout=5
    )
    assert proxied.status_code == 404


def test_logs_hold_no_prompt_and_no_key(simulated: Platform) -> None:
    word = "zanzibar-marmalade"
    body = {**BODY, "messages": [{"role": "user", "content": word}]}
    with simulated.http() as client:
        answer = client.post(CHAT, json=body)
        client.post(CHAT, json={**body, "temperature": 9})
    request_id = answer.headers["x-request-id"]
    wait_for(lambda: request_id in simulated.log("web"), 5)
    for name in ("web", "chat-1", "chat-2", "control", "beat"):
        log = simulated.log(name)
        assert word not in log
        assert simulated.key not in log
