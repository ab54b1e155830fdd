"""Budgets that were checked and not reserved: $0.60 spent on a $0.45 cap by parallel requests.

The budget here is worth three requests; many times as many come at once, over both
connections of the product.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from tests.api.test_key_terms_live import make_keys
from tests.api.test_money_limits import until_recorded
from tests.api.test_stream_socket import socket
from tests.harness.platform import CHAT_MODEL, Platform
from tests.hostile.raw import CHAT

# Output is what costs; each request may make as much as this.
BODY = {
    "model": CHAT_MODEL,
    "messages": [{"role": "user", "content": "Tell me"}],
    "max_tokens": 64,
    "stream": False,
}


def test_parallel_requests_spend_no_more_than_the_cap(simulated: Platform) -> None:
    made = make_keys(simulated, {"probe": {}}, with_ids=True)
    probe, probe_id = made["probe"]
    with simulated.http(probe) as client:
        assert client.post(CHAT, json=BODY).status_code == 200
    cost = until_recorded(simulated, probe_id, 1)
    cap = 3 * cost + cost // 2
    key, public_id = make_keys(
        simulated, {"capped": {"monthly_budget_micros": cap}}, with_ids=True
    )["capped"]

    with simulated.http(key) as client, socket(simulated, key) as connection:
        for number in range(20):
            connection.send(
                json.dumps({"type": "request", "id": f"s{number}", "endpoint": CHAT, "body": BODY})
            )
        with ThreadPoolExecutor(16) as pool:
            statuses = list(pool.map(lambda _: client.post(CHAT, json=BODY).status_code, range(32)))
        done, answered = 0, 0
        while done < 20:
            frame = json.loads(connection.recv(timeout=30))
            done += frame["type"] == "done"
            answered += frame["type"] == "response"
    served = statuses.count(200) + answered

    assert set(statuses) <= {200, 429}
    assert 1 <= served <= 3
    assert until_recorded(simulated, public_id, served) <= cap
