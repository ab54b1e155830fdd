"""The pages name what exists: links, error codes, numbers, modules, Redis keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import api.asgi
import api.errors
import api.files.handler
import api.http
import api.resources
import api.streams.handler
import config.web
import inference.answers.selectors
import inference.batches.actions
import inference.errors
import inference.files.actions
import inference.objects.store
import inference.stream_log
import inference.uploads.actions
import tenants.authentication
import tenants.errors
from api import parameters
from api import structured_outputs as bounds
from api.chat_completions.messages import MOST_CALLS
from api.chat_completions.prompting import MOST_DOCUMENTS_BYTES, MOST_TEMPLATE_KWARGS_BYTES
from api.chat_completions.tools import MOST_TOOLS, MOST_TOOLS_BYTES
from api.chat_completions.wire import MOST_DOCUMENTS, MOST_MESSAGES, ChatRequest
from api.completions.wire import (
    MOST_LOGPROBS,
    MOST_PROMPTS,
    MOST_SCORED_PROMPT_TOKENS,
    CompletionRequest,
)
from api.embeddings.handler import MOST_INPUTS
from api.messages.wire import LEAST_THINKING_TOKENS, MOST_BLOCKS
from api.scoring.wire import MOST_DOCUMENTS as MOST_RERANKED
from api.tokenize.handler import MOST_TOKENS
from config.settings import env
from tenants import tickets
from workers.engines import grammar_child

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
GUIDE = (ROOT / "docs" / "api.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_name_no_path_of_this_machine(page: Path) -> None:
    assert str(ROOT) not in page.read_text()
    assert not re.search(r"(?<![\w.])/(?:home|root|work)/", page.read_text())


def test_statuses_of_the_guide_are_the_codes() -> None:
    table = GUIDE.split("## Errors")[1]
    for error in (
        inference.errors.ModelNotFound, inference.errors.ContextLengthExceeded,
        inference.errors.ContentBlocked, inference.errors.NoReplica, inference.errors.Overloaded,
        inference.errors.RequestFailed, inference.errors.RequestTimedOut,
        tenants.errors.InvalidApiKey, tenants.errors.OrganizationSuspended,
        tenants.errors.LimitExceeded, tenants.errors.AdmissionUnavailable,
        api.http.BodyTooLarge, api.http.UnsupportedContentType, api.asgi.MethodNotAllowed,
        api.asgi.UnknownPath,
    ):  # fmt: skip
        assert f"| {error.status} | `{error.code}` |" in table, error


def test_guide_has_every_parameter() -> None:
    section = GUIDE.split("## Parameters")[1].split("\n## ")[0] + GUIDE.split("## Streaming")[1]
    told = set(re.findall(r"`(\w+)`", section))
    fields = {*ChatRequest.__struct_fields__, *CompletionRequest.__struct_fields__}
    # These have sections of their own.
    assert fields - told <= {"stream", "prompt"}


@pytest.mark.parametrize(
    ("name", "number", "sentence"),
    [
        ("MOST_CHOICES", parameters.MOST_CHOICES, "| `n` | 1 to {} |"),
        ("MOST_STOPS", parameters.MOST_STOPS, "a string or up to {}, each"),
        ("MOST_STOPS", parameters.MOST_STOPS, "| `stop_token_ids` | up to {} |"),
        ("MOST_STOP_CHARACTERS", parameters.MOST_STOP_CHARACTERS, "each of 1 to {} characters"),
        ("MOST_LOGIT_BIASES", parameters.MOST_LOGIT_BIASES, "up to {} token ids"),
        ("MOST_TOP_LOGPROBS", parameters.MOST_TOP_LOGPROBS, "true; 0 to {} |"),
        ("MOST_BAD_WORDS", parameters.MOST_BAD_WORDS, "up to {}, each of 1"),
        ("MOST_LOGPROBS", MOST_LOGPROBS, "(completions) | 0 to {} |"),
        ("MOST_MESSAGES", MOST_MESSAGES, "| `messages` | 1 to {} |"),
        ("MOST_METADATA", parameters.MOST_METADATA, "| `metadata` | up to {} pairs"),
        ("MOST_METADATA_KEY", parameters.MOST_METADATA_KEY, "names of up to {} and"),
        ("MOST_METADATA_VALUE", parameters.MOST_METADATA_VALUE, "values of up to {} characters"),
        ("MOST_SCORED", MOST_SCORED_PROMPT_TOKENS, "prompts of at most {} tokens |"),
        ("MOST_DOCUMENTS", MOST_DOCUMENTS, "| `documents` (chat) | up to {} objects"),
        ("MOST_DOCUMENTS_BYTES", MOST_DOCUMENTS_BYTES >> 20, "objects, {} MiB together"),
        ("MOST_KWARGS", MOST_TEMPLATE_KWARGS_BYTES >> 10, "(chat) | at most {} KiB;"),
        ("MOST_TOOLS", MOST_TOOLS, "Bounds: 1 to {} tools"),
        ("MOST_TOOLS_BYTES", MOST_TOOLS_BYTES >> 10, "tools, {} KiB together"),
        ("MOST_CALLS", MOST_CALLS, "{} earlier calls a message"),
        ("MOST_SCHEMA_BYTES", bounds.MOST_SCHEMA_BYTES >> 10, "| schema | {} KiB,"),
        ("MOST_SCHEMA_DEPTH", bounds.MOST_SCHEMA_DEPTH, "KiB, {} levels of JSON"),
        ("MOST_PROPERTIES", bounds.MOST_PROPERTIES, "{} properties"),
        ("MOST_ENUM_VALUES", bounds.MOST_ENUM_VALUES, "{} enum values;"),
        ("MOST_REGEX_CHARACTERS", bounds.MOST_REGEX_CHARACTERS, "schema | {} characters;"),
        ("MOST_REGEX_SIZE", bounds.MOST_REGEX_SIZE, "{} with repetitions written out"),
        ("MOST_REGEX_DEPTH", bounds.MOST_REGEX_DEPTH, "{} levels of groups"),
        ("MOST_CHOICES_ALLOWED", bounds.MOST_CHOICES, "| choices | {}, each"),
        ("MOST_CHOICE_CHARACTERS", bounds.MOST_CHOICE_CHARACTERS, "each of 1 to {} characters |"),
        ("MOST_GRAMMAR", bounds.MOST_GRAMMAR_CHARACTERS >> 10, "| grammar | {} KiB |"),
        ("MOST_CPU_S", grammar_child.MOST_CPU_S, "| compiling it | {} s of CPU"),
        ("MOST_MEMORY", grammar_child.MOST_MEMORY_BYTES >> 30, "CPU and {} GiB"),
        ("MOST_PROMPTS", MOST_PROMPTS, "a list of up to {} of either; choices"),
        ("MOST_INPUTS", MOST_INPUTS, "a list of up to {} of either. `encoding_format`"),
        ("MOST_BLOCKS", MOST_BLOCKS, "or up to {} blocks a message"),
        ("LEAST_THINKING", LEAST_THINKING_TOKENS, "(`budget_tokens` from {}, below"),
        ("MOST_RERANKED", MOST_RERANKED, "a query and up to {} documents are"),
        ("MOST_TOKENS", MOST_TOKENS, "takes `tokens`, up to {}, and gives"),
        ("REQUEST_TIMEOUT_S", float(env.declared["REQUEST_TIMEOUT_S"].default), "{} s (`REQU"),
        ("BODY_TIMEOUT_S", float(env.declared["BODY_TIMEOUT_S"].default), "within {} s (`BODY"),
        ("MAX_IN_FLIGHT", int(env.declared["MAX_IN_FLIGHT"].default), "| {} (`MAX_IN"),
        ("MAX_BODY_BYTES", int(env.declared["MAX_BODY_BYTES"].default) >> 20, "{} MiB (`MAX_B"),
        (
            "WEBSOCKET",
            int(env.declared["WEBSOCKET_MAX_REQUESTS"].default),
            "| {} (`WEBSOCKET_MAX_R",
        ),
        ("SOCKETS", int(env.declared["WEBSOCKET_MAX_PER_KEY"].default), "| {}, 5,000 (`WEBS"),
        ("IDLE", float(env.declared["WEBSOCKET_IDLE_S"].default), "| {} s (`WEBSOCKET_IDLE_S`)"),
        ("PING", config.web.PING_S, "one every {} s"),
        ("GRACE", float(env.declared["RESUME_GRACE_S"].default), "for {} s (`RESUME_GRACE_S`)"),
        ("TICKETS", tickets.MOST_A_MINUTE, "most {} a minute for a key"),
        ("MOST_EVENTS", inference.stream_log.MOST_EVENTS, "or {} events: it goes on"),
        ("MOST_LOG", inference.stream_log.MOST_BYTES >> 20, "to be kept ({} MiB)"),
        ("LEASE", inference.stream_log.LEASE_MS / 1000, "the key is free within {} s"),
    ],
)
def test_numbers_of_the_guide_are_the_codes(name: str, number: float, sentence: str) -> None:
    assert sentence.format(f"{number:,.0f}") in GUIDE, name


def test_python_examples_compile() -> None:
    examples = re.findall(r"<!-- runnable -->\n```python\n(.*?)```", GUIDE, re.DOTALL)
    assert len(examples) == GUIDE.count("```python")
    for number, example in enumerate(examples):
        compile(example, f"docs/api.md, example {number + 1}", "exec")


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "rooms").glob("*.md")), ids=name_of)
def test_room_pages_name_files_that_exist(page: Path) -> None:
    room = ROOT / page.stem
    for row in re.findall(r"^\| (`[^|]*) \|", page.read_text(), re.MULTILINE):
        for name in re.findall(r"`([\w./]+\.(?:py|lua)|[\w/]+/)`", row):
            places = [room / name, room / "local" / name, room / Path(name).name, ROOT / name]
            siblings = list(room.rglob(Path(name).name)) if name.endswith((".py", ".lua")) else []
            assert siblings or any(place.exists() for place in places), name


def test_architecture_names_files_and_streams_that_exist() -> None:
    for name in re.findall(r"`((?:\w+/)+[\w.]+\.(?:py|lua))`", ARCHITECTURE):
        assert (ROOT / name).is_file(), name
    from inference import wire
    from tenants.admission import gate

    for key in (
        gate.HOLDS, gate.USAGE_STREAM, wire.WORKER_USAGE, wire.HEARTBEATS,
        wire.mailbox_of("<gateway>"), wire.control_of("<replica>"), wire.queue_of("<name>"),
    ):  # fmt: skip
        assert f"`{key}`" in ARCHITECTURE, key


def test_decisions_are_numbered_once() -> None:
    numbers = [path.name[:4] for path in (ROOT / "docs" / "adr").glob("*.md")]
    assert len(numbers) == len(set(numbers))
    for path in (ROOT / "docs" / "adr").glob("*.md"):
        text = path.read_text()
        assert text.startswith(f"# {int(path.name[:4])}. "), path.name
        for part in ("**Context.**", "**Decision.**", "**Consequences.**"):
            assert part in text, path.name
