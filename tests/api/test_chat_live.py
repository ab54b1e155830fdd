"""The main job on the real engine, through the official client, counted to the token."""

from __future__ import annotations

import math

import pytest

from inference.prompts import PromptRenderer
from tests.harness.platform import CHAT_MODEL, EMBEDDING_MODEL, Platform, wait_for
from tests.harness.services import CHECKOUT

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def renderer(live: Platform) -> PromptRenderer:
    path = live.query(
        "SELECT v.path FROM inference_modelversion v JOIN inference_model m ON m.id = v.model_id "
        "WHERE m.name = %s",
        CHAT_MODEL,
    )[0][0]
    return PromptRenderer.load(CHECKOUT / ".sluice" / "models" / path)


def test_the_capital_of_france_is_paris(live: Platform) -> None:
    answer = live.openai().chat.completions.create(
        model=CHAT_MODEL, messages=QUESTION, temperature=0, max_tokens=32
    )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"


def test_a_stream_says_what_the_whole_answer_says(live: Platform) -> None:
    client = live.openai()
    options = {"model": CHAT_MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 24}
    whole = client.chat.completions.create(**options)
    chunks = list(
        client.chat.completions.create(
            **options, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert whole.usage is not None
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len(chunks) > 4  # it did stream


def test_usage_is_one_number_everywhere(live: Platform, renderer: PromptRenderer) -> None:
    """The client's, the tokenizer's, the usage row's, the ledger's and the portal's."""
    before = _portal_total(live)
    answer = live.openai().chat.completions.create(
        model=CHAT_MODEL, messages=QUESTION, temperature=0, max_tokens=32
    )
    usage = answer.usage
    assert usage is not None
    prompt = renderer.tokenize(renderer.render_chat(QUESTION), False, scope=0)
    assert usage.prompt_tokens == len(prompt)
    # The text's own tokens, and the end token that the engine made after them.
    made = renderer.tokenize(answer.choices[0].message.content or "", False, scope=0)
    assert usage.completion_tokens == len(made) + 1

    request_id = answer.id.removeprefix("chatcmpl-")
    row = live.usage_row(request_id, "prompt_tokens, completion_tokens, cost_micros, status")
    assert row[:2] == (usage.prompt_tokens, usage.completion_tokens)
    assert row[3] == "completed"
    entries = live.query(
        "SELECT e.account, e.amount_micros FROM billing_ledgerentry e "
        "JOIN billing_ledgertransaction t ON t.id = e.transaction_id WHERE t.reference = %s",
        request_id,
    )
    assert dict(entries) == {"receivable": row[2], "revenue": -row[2]}
    assert row[2] > 0
    assert _portal_total(live) - before == usage.total_tokens


def _portal_total(live: Platform) -> int:
    """Total tokens of the month as the portal's own selector gives them."""
    script = (
        "from tenants.models import Organization\n"
        "from billing.selectors import usage_summary\n"
        "from django.utils import timezone\n"
        "from datetime import timedelta\n"
        "now = timezone.now()\n"
        "s = usage_summary(Organization.objects.get(name='Acme'), now - timedelta(days=1), "
        "now + timedelta(days=1))\n"
        "print(s.prompt_tokens + s.completion_tokens)\n"
    )
    # Everything reported so far must be in the ledger before it is compared.
    wait_for(lambda: live.redis().xlen("usage.reports") == 0, 20)
    return int(live.manage("shell", "-v", "0", "-c", script).strip().splitlines()[-1])


def test_two_paraphrases_are_nearer_than_two_strangers(live: Platform) -> None:
    vectors = [
        item.embedding
        for item in live.openai()
        .embeddings.create(
            model=EMBEDDING_MODEL,
            input=[
                "The cat sits on the mat.",
                "A cat is sitting on a mat.",
                "Stock markets fell sharply today.",
            ],
        )
        .data
    ]
    assert [len(vector) for vector in vectors] == [384] * 3
    assert math.isclose(_dot(vectors[0], vectors[0]), 1, abs_tol=1e-3)
    assert _dot(vectors[0], vectors[1]) > _dot(vectors[0], vectors[2]) + 0.3


def _dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_completions_with_several_prompts_and_choices(live: Platform) -> None:
    answer = live.openai().completions.create(
        model=CHAT_MODEL,
        prompt=["Once upon a time", "The quick brown"],
        n=2,
        max_tokens=6,
        logprobs=2,
        temperature=1,
        seed=7,
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].text != answer.choices[1].text
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 24
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert "".join(logprobs.tokens or []) == answer.choices[0].text
    again = live.openai().completions.create(
        model=CHAT_MODEL,
        prompt=["Once upon a time", "The quick brown"],
        n=2,
        max_tokens=6,
        temperature=1,
        seed=7,
    )
    assert [c.text for c in again.choices] == [c.text for c in answer.choices]


def test_sampling_parameters_reach_the_engine(live: Platform) -> None:
    client = live.openai()
    options = {"model": CHAT_MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 24}
    stopped = client.chat.completions.create(**options, stop=" France")
    assert stopped.choices[0].message.content == "The capital of"
    assert stopped.choices[0].finish_reason == "stop"
    short = client.chat.completions.create(**{**options, "max_tokens": 3})
    assert short.choices[0].finish_reason == "length"
    assert short.usage is not None
    assert short.usage.completion_tokens == 3
    long = client.chat.completions.create(**options, extra_body={"ignore_eos": True})
    assert long.usage is not None
    assert long.usage.completion_tokens == 24
    banned = client.chat.completions.create(
        **options, extra_body={"bad_words": ["Paris", " Paris"]}
    )
    assert "Paris" not in (banned.choices[0].message.content or "")
    likely = client.chat.completions.create(**options, logprobs=True, top_logprobs=3)
    logprobs = likely.choices[0].logprobs
    assert logprobs is not None
    content = logprobs.content or []
    assert "".join(token.token for token in content).startswith("The capital of France is Paris")
    assert all(len(token.top_logprobs) == 3 and token.logprob <= 0 for token in content)


def test_a_repeated_prompt_is_read_from_the_prefix_cache(live: Platform) -> None:
    messages = [{"role": "user", "content": "Tell me about rivers. " * 40}]
    options = {"model": CHAT_MODEL, "messages": messages, "max_tokens": 2}
    live.openai().chat.completions.create(**options)
    again = live.openai().chat.completions.create(**options)
    foreign = live.openai(live.other_key).chat.completions.create(**options)
    assert again.usage is not None
    assert again.usage.prompt_tokens_details is not None
    assert (again.usage.prompt_tokens_details.cached_tokens or 0) > 100
    # The salt of another organization finds none of these blocks.
    assert foreign.usage is not None
    assert foreign.usage.prompt_tokens_details is not None
    assert foreign.usage.prompt_tokens_details.cached_tokens == 0


def test_models_are_listed(live: Platform) -> None:
    names = {model.id for model in live.openai().models.list()}
    assert names == {CHAT_MODEL, EMBEDDING_MODEL}
    assert live.openai().models.retrieve(CHAT_MODEL).id == CHAT_MODEL
