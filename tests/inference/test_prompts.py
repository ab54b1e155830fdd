"""The gateway's tokens are transformers' tokens, cached or not, and a long text is cheap."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import processors

from inference.errors import ContextLengthExceeded, InvalidRequest, StoreError
from inference.prompts import PromptRenderer
from inference.prompts.cache import ENTRY_CHARS, TokenCache
from inference.prompts.renderer import THREAD_CHARS
from tests.inference.default_models import default_folder
from tests.inference.tiny_models import tiny_tokenizer, write_tiny_model

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "prompts"
SMOLLM2 = "smollm2-135m-instruct"
MINILM = "all-minilm-l6-v2"

Messages = list[dict[str, Any]]

# Where tokenizers differ: specials in content, runs of space, digits, case, joined
# emoji, combining marks, bytes without a token, right-to-left, unassigned.
FRAGMENTS = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_", "|>", "<repo_name>", "<reponame>",
    "[CLS]", "[SEP]", "[MASK]", "hello", " World", "HELLO", "don't", "a", " ", "   ", "\t", "\n",
    "\n\n", "\r\n", "1", "2024", " 42", "½", "٣", "Ⅷ", "é", "e\u0301", "\u0301", "你好", "日本語",
    "مرحبا", "🙂", "👩‍👩‍👧", "🇩🇪", "\x00", "\x04", "\x1d", "\u200b", "\ufeff", "\U000e0001",
    ".", "...", "user\n", "system\n", "def f(x):\n    return x", "«»", "ŁÓDŹ", "ß",
]  # fmt: skip
text = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)), max_size=25).map(
    "".join
)
chat = st.lists(
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["system", "user", "assistant"]),
        text,
    ),
    min_size=1,
    max_size=6,
)
exhaustive = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def smollm2() -> PromptRenderer:
    return PromptRenderer.load(default_folder(SMOLLM2))


@pytest.fixture(scope="module")
def minilm() -> PromptRenderer:
    return PromptRenderer.load(default_folder(MINILM))


def _reference(model: str) -> Any:
    transformers = pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.AutoTokenizer.from_pretrained(default_folder(model))


@pytest.fixture(scope="module")
def smollm2_reference() -> Any:
    return _reference(SMOLLM2)


@pytest.fixture(scope="module")
def minilm_reference() -> Any:
    return _reference(MINILM)


def reference_ids(tokenizer: Any, messages: Messages) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return ids


def mt_bench() -> Iterator[Messages]:
    for line in (DATA / "mt_bench_questions.jsonl").read_text().splitlines():
        first, second = json.loads(line)["turns"]
        yield [{"role": "user", "content": first}]
        yield [
            {"role": "system", "content": "You judge well."},
            {"role": "user", "content": first},
            {"role": "assistant", "content": f"Here is 1 answer:\n\n{first[::-1]}"},
            {"role": "user", "content": second},
        ]


def fastchat() -> Iterator[Messages]:
    roles = {"human": "user", "gpt": "assistant"}
    for item in json.loads((DATA / "fastchat_dummy_conversation.json").read_text()):
        yield [
            {"role": roles[turn["from"]], "content": turn["value"]}
            for turn in item["conversations"]
        ]


@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of public prompts is not beside us")
def test_public_conversations_are_the_tokens_of_transformers(
    smollm2: PromptRenderer, smollm2_reference: Any
) -> None:
    conversations = [*mt_bench(), *fastchat()]
    assert len(conversations) > 600
    for messages in conversations:
        rendered = smollm2.render_chat(messages)
        ids = smollm2.tokenize(rendered, False, scope=1)
        assert ids == reference_ids(smollm2_reference, messages)


@exhaustive
@given(messages=chat)
def test_any_chat_is_the_tokens_of_transformers_cached_and_not(
    smollm2: PromptRenderer, smollm2_reference: Any, messages: Messages
) -> None:
    expected = reference_ids(smollm2_reference, messages)
    rendered = smollm2.render_chat(messages)
    assert smollm2.tokenize(rendered, False, scope=1) == expected
    assert smollm2.tokenize(rendered, False, scope=1) == expected
    # The cache of pieces came from other chats too; one that never saw any agrees.
    assert PromptRendererWithoutCache(smollm2).tokenize(rendered) == expected


class PromptRendererWithoutCache:
    """The same tokenizer given the text whole: what the pieces have to add up to."""

    def __init__(self, renderer: PromptRenderer):
        self._tokens = renderer._tokens

    def tokenize(self, rendered: str) -> list[int]:
        return self._tokens._encode(rendered, False)


@exhaustive
@given(value=text, add_special_tokens=st.booleans())
def test_any_text_is_the_tokens_of_transformers(
    smollm2: PromptRenderer,
    smollm2_reference: Any,
    minilm: PromptRenderer,
    minilm_reference: Any,
    value: str,
    add_special_tokens: bool,
) -> None:
    for ours, theirs in ((smollm2, smollm2_reference), (minilm, minilm_reference)):
        expected = theirs(value, add_special_tokens=add_special_tokens).input_ids
        assert ours.tokenize(value, add_special_tokens, scope=1) == expected
        assert ours.tokenize(value, add_special_tokens, scope=1) == expected


def test_embedding_input_has_its_frame_and_no_padding(minilm: PromptRenderer) -> None:
    """The file asks for truncation and padding to 128, which no request wants."""
    assert minilm.tokenize("hello world", True, scope=1) == [101, 7592, 2088, 102]
    assert len(minilm.tokenize("word " * 200, True, scope=1)) == 202


def test_text_that_looks_like_a_special_token_becomes_it(smollm2: PromptRenderer) -> None:
    """As in transformers and vLLM; equality with the engine's own server is the contract."""
    (end,) = smollm2.eos_token_ids
    assert smollm2.tokenize("a<|im_end|>b", False, scope=1).count(end) == 1


def test_ids_come_back_as_text(smollm2: PromptRenderer, smollm2_reference: Any) -> None:
    ids = smollm2.tokenize("Grüße 🙂, 12 apples<|im_end|>", False, scope=1)
    assert smollm2.decode(ids) == "Grüße 🙂, 12 apples"
    assert smollm2.decode(ids, skip_special_tokens=False).endswith("<|im_end|>")
    for token in ids:
        assert smollm2.token_text(token) == smollm2_reference.decode([token])


def test_what_a_folder_says(smollm2: PromptRenderer, minilm: PromptRenderer) -> None:
    assert smollm2.eos_token_ids == {2}
    assert smollm2.special_tokens["bos_token"] == "<|im_start|>"
    assert (smollm2.vocab_size, smollm2.max_context_tokens) == (49152, 8192)
    assert (minilm.vocab_size, minilm.max_context_tokens) == (30522, 256)
    assert smollm2.has_chat_template and not minilm.has_chat_template
    with pytest.raises(InvalidRequest):
        minilm.render_chat([{"role": "user", "content": "hi"}])


def test_a_growing_chat_tokenizes_only_what_is_new() -> None:
    renderer = PromptRenderer.load(default_folder(SMOLLM2))
    tokens = renderer._tokens
    messages: Messages = [{"role": "user", "content": "First question, " * 40}]
    renderer.tokenize(renderer.render_chat(messages), False, scope=1)
    messages += [
        {"role": "assistant", "content": "An answer"},
        {"role": "user", "content": "More?"},
    ]
    rendered = renderer.render_chat(messages)
    new = "assistant\nAn answer" + "user\nMore?"
    assert tokens.count_uncached_chars(rendered, False, 1) == len(new)
    renderer.tokenize(rendered, False, scope=1)
    assert tokens.count_uncached_chars(rendered, False, 1) == 0


def test_one_organization_does_not_warm_the_cache_of_another() -> None:
    renderer = PromptRenderer.load(default_folder(SMOLLM2))
    rendered = renderer.render_chat([{"role": "user", "content": "A secret question"}])
    cold = renderer._tokens.count_uncached_chars(rendered, False, 2)
    renderer.tokenize(rendered, False, scope=1)
    assert renderer._tokens.count_uncached_chars(rendered, False, 2) == cold > 0


@given(
    puts=st.lists(st.tuples(st.integers(1, 3), st.text(max_size=40)), max_size=60),
    limit=st.integers(100, 1000),
)
def test_the_cache_is_bounded_and_keeps_books(puts: list[tuple[int, str]], limit: int) -> None:
    cache = TokenCache(max_chars=limit)
    for key in puts:
        cache.put(key, (1,))
        assert cache.chars <= limit
    assert cache.chars == sum(len(key[1]) + ENTRY_CHARS for key in cache._entries)


def test_the_cache_drops_what_was_not_used_for_longest() -> None:
    cache = TokenCache(max_chars=20 * (ENTRY_CHARS + 1))
    for letter in "abcdefghijklmnopqrst":
        cache.put((1, letter), (ord(letter),))
    assert cache.get((1, "a")) == (97,)
    cache.put((1, "u"), (0,))
    assert cache.get((1, "a")) is not None and cache.get((1, "b")) is None


def test_a_huge_text_does_not_push_out_the_rest() -> None:
    cache = TokenCache(max_chars=1000)
    cache.put((1, "small"), (1,))
    cache.put((1, "x" * 900), (2,))
    assert cache.get((1, "small")) is not None and cache.get((1, "x" * 900)) is None


@exhaustive
@given(value=text, limit=st.integers(1, 12))
def test_early_refusal_never_refuses_what_fits(
    smollm2: PromptRenderer, minilm: PromptRenderer, value: str, limit: int
) -> None:
    for renderer in (smollm2, minilm):
        for repeated in (value, value * 40):
            if renderer._tokens.is_certainly_longer(repeated, limit):
                assert len(renderer.tokenize(repeated, False, scope=1)) > limit


@pytest.mark.parametrize("control", ["\x04", "\x1d"])
def test_characters_without_a_token_do_not_count(smollm2: PromptRenderer, control: str) -> None:
    """SmolLM2's vocabulary has no token for these: they vanish, and the text fits."""
    value = control * 10_000
    assert smollm2.tokenize(value, False, scope=1) == []
    smollm2.check_length(value, 10, param="prompt")


@pytest.mark.parametrize("unit", ["Lorem ipsum 42 dolor, ", "x", "🙂", "\n"])
async def test_a_hostile_prompt_is_refused_at_little_cost(
    smollm2: PromptRenderer, minilm: PromptRenderer, unit: str
) -> None:
    value = unit * (4_000_000 // len(unit))
    for renderer in (smollm2, minilm):
        if renderer is minilm and " " not in unit:
            continue  # one endless word is one token: it fits, and is cheap
        began = time.process_time()
        with pytest.raises(ContextLengthExceeded) as refused:
            await renderer.encode_text(value, scope=1, limit_tokens=4096)
        assert refused.value.param == "prompt"
        # Tokenizing it takes two seconds.
        assert time.process_time() - began < 0.3


async def test_a_long_text_leaves_the_event_loop_free(smollm2: PromptRenderer) -> None:
    value = "The 5 boxing wizards jump quickly. " * 8000
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    ticks = 0
    ids = await smollm2.encode_text(value, scope=1, limit_tokens=10**6)
    in_thread, ticks = ticks, 0
    assert smollm2.tokenize(value, True, scope=1) == ids
    inline = ticks
    ticking.cancel()
    assert inline == 0 and in_thread >= 10


async def test_encode_chat_is_render_and_tokenize(smollm2: PromptRenderer) -> None:
    for content in ("Hi", "long " * THREAD_CHARS):
        messages = [{"role": "user", "content": content}]
        ids = await smollm2.encode_chat(messages, scope=1, limit_tokens=10**6)
        assert ids == smollm2.tokenize(smollm2.render_chat(messages), False, scope=2)


@pytest.mark.parametrize("value", ["\ud800", "text \udc80" * THREAD_CHARS])
async def test_half_a_surrogate_pair_is_refused_by_name(
    smollm2: PromptRenderer, value: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await smollm2.encode_text(value, scope=1, limit_tokens=10**6, param="input")
    assert refused.value.param == "input"


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokenizer.json", "{}"), ("tokenizer.json", "not json"), ("tokenizer_config.json", "[1]"),
     ("chat_template.jinja", "{% for %}")],
)  # fmt: skip
def test_a_malformed_folder_is_a_store_error(tmp_path: Path, name: str, content: str) -> None:
    folder = write_tiny_model(tmp_path / "model")
    PromptRenderer.load(folder)
    (folder / name).write_text(content)
    with pytest.raises(StoreError):
        PromptRenderer.load(folder)


@pytest.mark.parametrize("in_file", [True, False])
def test_bos_goes_where_the_tokenizer_file_says(tmp_path: Path, in_file: bool) -> None:
    """transformers ignores the configuration's add_bos_token beside a tokenizer.json."""
    transformers = pytest.importorskip("transformers")
    folder = write_tiny_model(tmp_path / "model")
    config = {"bos_token": "a", "eos_token": "b", "add_bos_token": not in_file}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if in_file:
        tokenizer = tiny_tokenizer()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="a $A", special_tokens=[("a", 1)]
        )
        (folder / "tokenizer.json").write_text(tokenizer.to_str())
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = PromptRenderer.load(folder)
    expected = [1, 2, 1] if in_file else [2, 1]
    assert ours.tokenize("b a", True, scope=1) == theirs("b a").input_ids == expected
    assert ours.tokenize("b a", False, scope=1) == [2, 1]


def test_the_web_process_loads_no_torch() -> None:
    script = (
        "import sys, inference.prompts\n"
        "print([name for name in ('torch', 'transformers', 'vllm') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[]", done.stderr
