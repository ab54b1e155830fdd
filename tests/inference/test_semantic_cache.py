"""The semantic cache: alike in meaning, equal in everything else, one organization's."""

from __future__ import annotations

import asyncio
import math
import queue
import re
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import pytest
import redis
from django.conf import settings
from tokenizers import Tokenizer, models, pre_tokenizers

from inference import semantic_cache
from inference.dispatch import Dispatcher
from inference.likeness import must_agree, nearest, similarity, sketch_of, vector_of
from inference.prompts import PromptRenderer
from inference.registry import ModelEntry, Registry, Snapshot
from inference.response_cache import CachedAnswer, CachedChoice, void_key
from inference.semantic_cache import Asker, Inquiry, Match, Question, SemanticCache
from inference.wire import Delta, Submission
from tenants.redis_link import RedisLink
from tests.inference.callers import knows, make_served
from tests.inference.peer import Peer
from tests.inference.tiny_models import write_tiny_model

# Degrees by which a question's vector is turned; the cosine of 10 is 0.985, of 60 is 0.5.
TURNS = {
    "How do I bake bread?": 0,
    "How is bread baked?": 10,
    "How do I bake a cake?": 60,
    "How do I bake 2 loaves?": 1,
    "How do I bake 3 loaves?": 2,
    "May I bake?": 1,
    "May I not bake?": 2,
}
ASKER = Asker(5, 1, "", False)
Ask = Callable[..., Inquiry]


def vector(degrees: float) -> bytes:
    angle = math.radians(degrees)
    return struct.pack("<8f", math.cos(angle), math.sin(angle), *[0.0] * 6)


def answer(text: str, organization: int = 5, age_s: float = 0.0) -> CachedAnswer:
    choices = [CachedChoice(text, 3, "stop")]
    return CachedAnswer(organization, "req-1", time.time() - age_s, choices)


@pytest.fixture
async def link(valkey: redis.Redis) -> AsyncIterator[RedisLink]:
    link = RedisLink(settings.REDIS_URL, timeout_s=5, name="semantic")
    yield link
    await link.aclose()


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> PromptRenderer:
    """Whose tokenizer knows the words of ``TURNS``, and so tells them apart."""
    folder = write_tiny_model(tmp_path_factory.mktemp("embedder") / "tiny")
    words = sorted({word for text in TURNS for word in re.findall(r"\w+|[^\w\s]+", text)})
    vocabulary = {"[UNK]": 0} | {word: number for number, word in enumerate(words, 1)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    return PromptRenderer.load(folder)


@pytest.fixture
async def embedder(
    dispatcher: Dispatcher, client: redis.asyncio.Redis, renderer: PromptRenderer
) -> AsyncIterator[Peer]:
    """A replica of the embedding model that knows ``TURNS``."""
    known = {
        tuple(renderer.tokenize(text, True, scope=5)): vector(turn) for text, turn in TURNS.items()
    }
    async with Peer(client, "embed-1") as peer:
        await knows(dispatcher, "embed-1")

        async def serve() -> None:
            while True:
                # Briefly: the thread that waits is not cancelled with the task.
                with suppress(queue.Empty):
                    for submission in await peer.take_batch(0.1):
                        await peer.send(submission.gateway, _embedded(submission, known))

        task = asyncio.create_task(serve())
        yield peer
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _embedded(submission: Submission, known: dict[tuple[int, ...], bytes]) -> Delta:
    assert submission.sampling is None
    found = known[tuple(submission.prompt_ids)]
    return Delta(
        submission.request_id, submission.attempt, 0, [], "", finish_reason="stop", embedding=found
    )


@pytest.fixture
def cache(link: RedisLink, dispatcher: Dispatcher, renderer: PromptRenderer) -> SemanticCache:
    registry = Registry()
    served = replace(make_served(), renderer=renderer)
    entry = ModelEntry("minilm", "embedding", "us", 0, None, (served,))
    registry.snapshot = Snapshot({"minilm": entry})
    return SemanticCache(link, dispatcher, registry)


@pytest.fixture
def ask(cache: SemanticCache, embedder: Peer, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.setattr(semantic_cache, "LIMIT_S", 5.0)  # of a machine with other things to do

    def inquire(
        text: str, rest: bytes = b"you are kind", version: int = 7, asker: Asker = ASKER
    ) -> Inquiry:
        inquiry = cache.inquire(Question(text, rest), version, asker)
        assert inquiry is not None
        return inquiry

    return inquire


@pytest.fixture
def keep(ask: Ask) -> Callable[..., Awaitable[None]]:
    async def keep(text: str, kept: CachedAnswer, ttl_s: int = 60, **terms: object) -> None:
        inquiry = ask(text, **terms)
        await inquiry.begin()
        await inquiry.keep(kept, ttl_s)

    return keep


async def test_an_alike_question_is_given_the_answer_and_another_is_not(
    ask: Ask, keep: Callable[..., Awaitable[None]]
) -> None:
    kept = answer("In an oven.")
    assert await ask("How do I bake bread?").find(0.9) is None
    await keep("How do I bake bread?", kept)

    match = await ask("How is bread baked?").find(0.9)
    assert match is not None and match.answer == kept
    assert match.similarity == pytest.approx(math.cos(math.radians(10)), abs=1e-4)
    assert await ask("How is bread baked?").find(0.99) is None
    assert await ask("How do I bake a cake?").find(0.9) is None


@pytest.mark.parametrize(
    ("kept", "asked"),
    [
        ("How do I bake 2 loaves?", "How do I bake 3 loaves?"),
        ("May I bake?", "May I not bake?"),
    ],
)
async def test_numbers_and_denials_are_never_alike(
    ask: Ask, keep: Callable[..., Awaitable[None]], kept: str, asked: str
) -> None:
    await keep(kept, answer("So."))
    assert await ask(asked).find(0.5) is None
    assert await ask(kept).find(0.5) is not None


@pytest.mark.parametrize(
    "other",
    [
        {"rest": b"you are rude"},
        {"version": 8},
        {"asker": Asker(6, 1, "", False)},
    ],
)
async def test_what_is_not_the_question_must_be_equal(
    ask: Ask, keep: Callable[..., Awaitable[None]], other: dict[str, object]
) -> None:
    await keep("How do I bake bread?", answer("In an oven."))
    assert await ask("How do I bake bread?", **other).find(0.5) is None


async def test_another_organizations_answer_is_none_even_under_our_key(
    ask: Ask, keep: Callable[..., Awaitable[None]]
) -> None:
    await keep("How do I bake bread?", answer("Theirs.", organization=6))
    assert await ask("How do I bake bread?").find(0.5) is None


async def test_a_void_or_old_answer_is_none(
    ask: Ask, keep: Callable[..., Awaitable[None]], link: RedisLink
) -> None:
    await keep("How do I bake bread?", answer("In an oven.", age_s=30))
    assert await ask("How do I bake bread?").find(0.9, max_age_s=10) is None
    assert await ask("How do I bake bread?").find(0.9, max_age_s=60) is not None
    await link.call("SET", void_key(5), time.time())
    assert await ask("How do I bake bread?").find(0.9) is None


async def test_an_organization_keeps_a_bounded_number_for_a_bounded_time(
    keep: Callable[..., Awaitable[None]], valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semantic_cache, "MOST_ENTRIES", 3)
    for index in range(5):
        await keep("How do I bake bread?", answer(str(index)), ttl_s=60 + index)
    entries = sorted(valkey.keys("semantic:5:*:*"))
    assert len(entries) == 3 and valkey.zcard("semantic.entries:5") == 3
    (sketches,) = [key for key in valkey.keys("semantic:5:*") if key.count(b":") == 2]
    assert valkey.hlen(sketches) == 3
    assert all(0 < valkey.ttl(key) <= 64 for key in [*entries, sketches])
    await keep("How do I bake bread?", answer("x" * semantic_cache.MOST_BYTES))
    assert valkey.zcard("semantic.entries:5") == 3  # too large to be kept


async def test_a_slow_model_is_a_miss_and_then_not_asked_for_a_while(
    cache: SemanticCache, dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "embed-1"):  # it takes nothing
        await knows(dispatcher, "embed-1")

        async def find() -> Match | None:
            inquiry = cache.inquire(Question("How do I bake bread?", b""), 7, ASKER)
            assert inquiry is not None
            try:
                return await inquiry.find(0.9)
            finally:
                inquiry.drop()

        for _ in range(3):
            began = time.monotonic()
            assert await find() is None
            assert semantic_cache.LIMIT_S <= time.monotonic() - began < 1.0
        began = time.monotonic()
        assert await find() is None
        assert time.monotonic() - began < semantic_cache.LIMIT_S / 2
        await asyncio.sleep(0)
        assert dispatcher.in_flight == 0  # what nobody waits for was aborted


async def test_a_question_longer_than_the_model_reads_is_not_compared(
    cache: SemanticCache, dispatcher: Dispatcher
) -> None:
    """And takes nobody else's look-ups away."""
    for _ in range(5):
        inquiry = cache.inquire(Question("bread " * 129, b""), 7, ASKER)
        assert inquiry is not None and await inquiry.find(0.9) is None
        await inquiry.keep(answer("In an oven."), 60)
    assert cache.circuit.is_closed and dispatcher.in_flight == 0


async def test_without_an_embedding_model_there_is_no_inquiry(
    link: RedisLink, dispatcher: Dispatcher
) -> None:
    cache = SemanticCache(link, dispatcher, Registry())
    assert cache.inquire(Question("How?", b""), 7, ASKER) is None


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ("What is 2 + 3?", "What's 3 + 2 ?", True),
        ("Add 1,000 and 7", "Add 1000 and 7", False),
        ("I can't log in", "I can log in", False),
        ("I can’t log in", "I cannot log in", True),
        ("Is it not unsafe", "Is it never unsafe?", True),
        ("Tell me about notes", "Tell me about it", True),
        ("Mail ann@x.example", "Mail bob@x.example", False),
        ("What does to_pandas do?", "And `to_pandas`?", True),
        ("What does to_pandas do?", "What does to_arrow do?", False),
        ("What is HTTP?", "What is FTP?", False),
    ],
)
def test_what_two_texts_must_have_in_common(one: str, other: str, agree: bool) -> None:
    assert (must_agree(one) == must_agree(other)) is agree


def test_sketches_find_the_nearest() -> None:
    vectors = [vector_of(vector(degrees)) for degrees in (170, 95, 5, 40)]
    asked = vector_of(vector(0.5))
    assert 2 in nearest(sketch_of(asked), [sketch_of(each) for each in vectors], 2)
    assert max(range(4), key=lambda i: similarity(asked, vectors[i])) == 2
    assert similarity(asked, vector_of(b"\0" * 16)) == 0.0
