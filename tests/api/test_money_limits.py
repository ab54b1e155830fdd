"""Budgets over HTTP: never overspent, charged what the ledger posts, remembered without Redis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.api.test_keys_and_limits import BODY, CHAT, new_key, shell
from tests.harness.platform import EMBEDDING_MODEL, Platform, wait_for
from tests.tenants.factory import state_of

LONG = {**BODY, "max_tokens": 64}


def spent(platform: Platform, public_id: str) -> tuple[int, int]:
    """Requests and micro-dollars that the ledger has of a key."""
    ((requests, micros),) = platform.query(
        "SELECT count(*), coalesce(sum(cost_micros), 0) FROM billing_usageevent"
        " WHERE api_key_id = (SELECT id FROM tenants_apikey WHERE public_id = %s)",
        public_id,
    )
    return int(requests), int(micros)


def until_recorded(platform: Platform, public_id: str, requests: int) -> int:
    wait_for(lambda: spent(platform, public_id)[0] == requests, 20)
    return spent(platform, public_id)[1]


def state_key(platform: Platform, public_id: str) -> str:
    ((key,),) = platform.query("SELECT id FROM tenants_apikey WHERE public_id = %s", public_id)
    return f"k{key}"


def test_a_budget_is_never_overspent_and_outlives_redis(simulated: Platform) -> None:
    probe, probe_id = new_key(simulated, "probe")
    with simulated.http(probe) as client:
        assert client.post(CHAT, json=LONG).status_code == 200
    budget = 12 * max(1, until_recorded(simulated, probe_id, 1))
    key, public_id = new_key(simulated, "budget", f"monthly_budget_micros={budget}")

    def ask(client: httpx.Client) -> httpx.Response:
        return client.post(CHAT, json=LONG)

    with simulated.http(key) as client, ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(ask, [client] * 40), *(ask(client) for _ in range(20))]
        admitted = sum(answer.status_code == 200 for answer in answers)
        refused = answers[-1]
        assert refused.status_code == 429
        error = refused.json()["error"]
        assert error["code"] == error["type"] == "insufficient_quota"
        assert "API key's budget of $0." in error["message"]
        cost = until_recorded(simulated, public_id, admitted)
        assert budget / 2 < cost <= budget

        redis = simulated.redis()
        redis.delete(*redis.keys("limit:*"))
        again = [ask(client).status_code for _ in range(20)]
        admitted += again.count(200)
        assert until_recorded(simulated, public_id, admitted) <= budget


def test_every_kind_of_request_is_charged_what_the_ledger_posts(simulated: Platform) -> None:
    key, public_id = new_key(simulated, "kinds", "monthly_budget_micros=10**12")
    name = "Organization.objects.filter(name='Acme')"
    notice = "actions.notify_change(Organization.objects.get(name='Acme'))"
    shell(simulated, f"{name}.update(response_cache_ttl_s=60)", notice)
    cached = {**LONG, "temperature": 0, "seed": 7}
    try:
        with simulated.http(key) as client:
            for path, body in (
                (CHAT, LONG),
                (CHAT, {**LONG, "stream": True}),
                (CHAT, {**LONG, "n": 3}),
                (CHAT, cached),
                (CHAT, cached),
                ("/v1/completions", {"model": BODY["model"], "prompt": ["a b", "c"], "n": 2}),
                ("/v1/embeddings", {"model": EMBEDDING_MODEL, "input": ["a b c", "d"]}),
            ):
                answer = client.post(path, json=body)
                assert answer.status_code == 200, answer.text
    finally:
        shell(simulated, f"{name}.update(response_cache_ttl_s=0)", notice)
    cost = until_recorded(simulated, public_id, 7)
    ((hits,),) = simulated.query(
        "SELECT count(*) FROM billing_usageevent WHERE cache_hit AND api_key_id ="
        " (SELECT id FROM tenants_apikey WHERE public_id = %s)",
        public_id,
    )
    assert hits == 1
    state = state_of(simulated.redis(), state_key(simulated, public_id))
    assert (state.micros, state.micros_held, state.in_flight) == (cost, 0, 0)
    assert cost > 0
