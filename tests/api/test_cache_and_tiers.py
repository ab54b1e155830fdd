"""Cached answers, shared runs, classes and reasons, through a whole platform."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.api.test_keys_and_limits import CHAT, shell
from tests.harness.platform import CHAT_MODEL, Platform, wait_for

USED = "prompt_tokens, cached_tokens, completion_tokens, cache_hit, cost_micros"


def body(text: str = "", **fields: object) -> dict[str, object]:
    prompt = text or secrets.token_hex(8)
    return {
        "model": CHAT_MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 8,
        "temperature": 0,
        **fields,
    }


@pytest.fixture(scope="module")
def caching(simulated: Platform) -> Iterator[httpx.Client]:
    """Globex with an hour of response cache, priority, and reasons for whoever asks."""
    organization = "o = Organization.objects.get(name='Globex')"
    shell(
        simulated,
        organization,
        "o.response_cache_ttl_s = 3600",
        "o.semantic_cache = 'asked'",
        "o.save()",
        "Plan.objects.filter(pk=o.plan_id).update(allows_priority=True)",
        "from inference.models import *",
        "RoutingPolicy.objects.create("
        f"model=Model.objects.get(name='{CHAT_MODEL}'), explained_to=[o.public_id])",
        "from inference.actions import notify_registry_changed as registry",
        "registry()",
        "actions.set_organization_suspended(o, True, acting_user=None)",
        "actions.set_organization_suspended(o, False, acting_user=None)",
    )
    with simulated.http(simulated.other_key) as client:
        wait_for(lambda: "x-sluice-cache" in client.post(CHAT, json=body()).headers, 5)
        yield client


def test_the_second_answer_is_the_first_one_and_costs_the_cached_prompt(
    caching: httpx.Client, simulated: Platform
) -> None:
    asked = body()
    first, second = (caching.post(CHAT, json=asked) for _ in range(2))
    assert (first.headers["x-sluice-cache"], second.headers["x-sluice-cache"]) == ("miss", "hit")
    assert second.headers["x-sluice-cache-source"] == first.headers["x-request-id"]
    assert int(second.headers["age"]) < 60
    assert second.json()["choices"] == first.json()["choices"]
    usage = second.json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"]
    assert usage["completion_tokens"] == first.json()["usage"]["completion_tokens"]
    row = simulated.usage_row(second.headers["x-request-id"], USED)
    assert row[:4] == (
        usage["prompt_tokens"], usage["prompt_tokens"], usage["completion_tokens"], True
    )  # fmt: skip


def test_a_hit_streams_as_an_answer_does(caching: httpx.Client, simulated: Platform) -> None:
    asked = body(stream=True, stream_options={"include_usage": True})
    lines = [
        [line for line in caching.post(CHAT, json=asked).text.split("\n\n") if line]
        for _ in range(2)
    ]
    run, hit = ([json_of(line) for line in each[:-1]] for each in lines)
    assert lines[1][-1] == "data: [DONE]"
    assert hit[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert text_of(hit) == text_of(run)
    assert hit[-2]["choices"][0]["finish_reason"] == run[-2]["choices"][0]["finish_reason"]
    assert (
        hit[-1]["choices"] == []
        and hit[-1]["usage"]["total_tokens"] == run[-1]["usage"]["total_tokens"]
    )
    assert all(chunk["usage"] is None for chunk in hit[:-1])


def json_of(line: str) -> dict:  # type: ignore[type-arg]
    return httpx.Response(200, text=line.removeprefix("data: ")).json()  # type: ignore[no-any-return]


def text_of(chunks: list[dict]) -> str:  # type: ignore[type-arg]
    return "".join(
        chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"]
    )


def test_headers_control_reading_and_keeping(caching: httpx.Client) -> None:
    def state(asked: dict[str, object], control: str = "") -> str:
        headers = {"x-sluice-cache": control} if control else {}
        return caching.post(CHAT, json=asked, headers=headers).headers["x-sluice-cache"]

    asked = body()
    assert [state(asked, "no-store"), state(asked), state(asked, "no-cache"), state(asked)] == [
        "miss", "miss", "bypass", "hit"
    ]  # fmt: skip
    assert state(asked, "max-age=60") == "hit"
    refused = caching.post(CHAT, json=asked, headers={"x-sluice-cache": "forever"})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "x-sluice-cache"


def test_those_who_ask_alike_at_once_share_a_run(
    caching: httpx.Client, simulated: Platform
) -> None:
    asked = body()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: caching.post(CHAT, json=asked), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    states = [answer.headers["x-sluice-cache"] for answer in answers]
    assert states.count("miss") == 1 and states.count("hit") == 15
    assert len({answer.json()["choices"][0]["message"]["content"] for answer in answers}) == 1
    hits = [
        simulated.usage_row(answer.headers["x-request-id"], "cache_hit")[0] for answer in answers
    ]
    assert hits.count(True) == 15  # each is settled on its own


def test_an_organization_forgets_its_answers(caching: httpx.Client, simulated: Platform) -> None:
    asked = body()
    caching.post(CHAT, json=asked)
    assert caching.post(CHAT, json=asked).headers["x-sluice-cache"] == "hit"
    shell(
        simulated,
        "from inference.actions import forget_answers",
        "forget_answers(Organization.objects.get(name='Globex'), acting_user=None)",
    )
    assert caching.post(CHAT, json=asked).headers["x-sluice-cache"] == "miss"


def test_an_alike_question_is_answered_for_who_asks_for_that(
    caching: httpx.Client, simulated: Platform
) -> None:
    """The simulated embedding is of the words: what is alike here is what is equal."""
    asked = body(temperature=0.7)  # which the exact cache leaves alone

    def ask(control: str = "semantic", **fields: object) -> httpx.Response:
        return caching.post(CHAT, json=asked | fields, headers={"x-sluice-cache": control})

    first = ask()
    assert first.headers["x-sluice-cache"] == "miss"
    # A look-up that a busy machine makes late is a miss.
    hits = wait_for(lambda: [hit for hit in [ask()] if is_semantic(hit)], 20)
    again = hits[0]
    assert again.headers["x-sluice-cache-similarity"] == "1.000"
    assert int(again.headers["age"]) < 60 and again.headers["x-sluice-cache-source"]
    assert again.json()["choices"][0]["message"] == first.json()["choices"][0]["message"]
    row = simulated.usage_row(again.headers["x-request-id"], USED)
    prompt = again.json()["usage"]["prompt_tokens"]
    assert row[:2] == (prompt, prompt) and row[3] is True
    streamed = wait_for(lambda: [hit for hit in [ask(stream=True)] if is_semantic(hit)], 20)[0]
    assert streamed.text.endswith("data: [DONE]\n\n")

    assert "x-sluice-cache" not in ask("max-age=60").headers  # it did not ask
    system = {"role": "system", "content": "Be brief."}
    for other in ({"messages": [system, *asked["messages"]]}, {"temperature": 0.8}, {"top_p": 0.5}):  # type: ignore[misc]
        assert not is_semantic(ask(**other))
    with simulated.http(simulated.key) as client:  # its organization has it off
        answer = client.post(CHAT, json=asked, headers={"x-sluice-cache": "semantic"})
    assert answer.status_code == 200 and "x-sluice-cache" not in answer.headers


def is_semantic(answer: httpx.Response) -> bool:
    return answer.headers.get("x-sluice-cache") == "semantic-hit"


@pytest.mark.parametrize("tier", ["auto", "default", "flex", "priority"])
def test_the_answer_says_its_class(caching: httpx.Client, simulated: Platform, tier: str) -> None:
    told = "default" if tier == "auto" else tier
    assert caching.post(CHAT, json=body(service_tier=tier)).json()["service_tier"] == told
    answer = caching.post(CHAT, json=body(service_tier=tier))
    row = simulated.usage_row(answer.headers["x-request-id"], "tier, cost_micros")
    assert row[0] == ("standard" if told == "default" else told)
    streamed = caching.post(CHAT, json=body(service_tier=tier, stream=True)).text
    assert f'"service_tier":"{told}"' in streamed
    with simulated.http(simulated.key) as client:  # its plan has no priority
        answer = client.post(CHAT, json=body(service_tier=tier)).json()
    assert answer["service_tier"] == ("default" if tier in ("auto", "priority") else tier)


def test_who_may_ask_is_told_how_it_was_routed(caching: httpx.Client, simulated: Platform) -> None:
    asked, header = body(), {"x-sluice-debug": "1", "x-sluice-cache": "no-cache"}
    told = caching.post(CHAT, json=asked, headers=header).headers
    assert told["x-sluice-replica"].startswith("chat-")
    assert told["x-sluice-routing"].startswith("scored; prefix=")
    assert "x-sluice-replica" not in caching.post(CHAT, json=asked).headers
    with simulated.http(simulated.key) as client:
        assert "x-sluice-replica" not in client.post(CHAT, json=asked, headers=header).headers
