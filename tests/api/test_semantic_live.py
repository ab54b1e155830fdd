"""The semantic cache with the real embedding model: what people mean, not what they type."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.api.test_keys_and_limits import CHAT, shell
from tests.harness.platform import CHAT_MODEL, Platform, wait_for


@pytest.fixture(scope="module")
def semantic(live: Platform) -> Iterator[httpx.Client]:
    """Globex, whose questions may be 0.85 alike."""
    shell(
        live,
        "o = Organization.objects.get(name='Globex')",
        "actions.update_organization(o, {'semantic_cache': 'all', "
        "'semantic_cache_threshold': 0.85}, acting_user=None)",
    )
    with live.http(live.other_key) as client:
        yield client
    shell(
        live,
        "o = Organization.objects.get(name='Globex')",
        "actions.update_organization(o, {'semantic_cache': 'off'}, acting_user=None)",
    )


def ask(client: httpx.Client, question: str) -> httpx.Response:
    body = {
        "model": CHAT_MODEL,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": 12,
        "temperature": 0,
    }
    answer = client.post(CHAT, json=body)
    assert answer.status_code == 200, answer.text
    return answer


def test_a_paraphrase_is_answered_and_another_number_is_not(semantic: httpx.Client) -> None:
    wait_for(lambda: "x-sluice-cache" in ask(semantic, "Warm up, please.").headers, 10)
    made = {}  # by request: a look-up that a busy machine makes late is a miss, and is kept too

    def hit_of(question: str) -> httpx.Response | None:
        answer = ask(semantic, question)
        if answer.headers["x-sluice-cache"] == "semantic-hit":
            return answer
        made[answer.headers["x-request-id"]] = answer.json()["choices"]
        return None

    assert hit_of("How can I reset my password for the 3 accounts?") is None
    hit = wait_for(lambda: hit_of("How do I reset my password of the 3 accounts?"), 30)
    assert hit is not None
    assert hit.json()["choices"] == made[hit.headers["x-sluice-cache-source"]]
    assert 0.85 <= float(hit.headers["x-sluice-cache-similarity"]) <= 1.0
    if len(made) == 1:  # the first was found, by its meaning
        assert float(hit.headers["x-sluice-cache-similarity"]) < 0.9999
    for other in (
        "How can I reset my password for the 4 accounts?",
        "How can I not reset my password for the 3 accounts?",
        "How long does it take to boil 3 eggs?",
    ):
        assert ask(semantic, other).headers["x-sluice-cache"] == "miss"
