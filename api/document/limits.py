"""Each limit's number, out of the constant or setting that holds it: ``docs/limits.md``.

Where a row ends in the name of a setting, the number is its default.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from django.conf import settings

from api.document.guide import table

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True)
class Limit:
    """``source`` is ``module:CONSTANT``, or a setting's name; ``unit`` follows the number."""

    what: str
    source: str
    unit: str = ""

    @property
    def value(self) -> float:
        module, _, name = self.source.rpartition(":")
        if module:
            return float(getattr(import_module(module), name))
        declared = import_module(settings.SETTINGS_MODULE).env.declared[name]
        return float(declared.default)

    @property
    def told(self) -> str:
        """As people write it: bytes in the largest unit that has no fraction."""
        if self.unit != "bytes":
            return f"{self.value:,.10g} {self.unit}".strip()
        for size, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
            if self.value >= size and self.value % size == 0:
                return f"{self.value / size:,.0f} {name}"
        if self.value % 1_000_000 == 0:
            return f"{self.value / 1e6:,.0f} MB"
        return f"{self.value:,.0f} bytes"


def _of(module: str, *rows: tuple[str, ...]) -> list[Limit]:
    return [Limit(row[1], f"{module}:{row[0]}", *row[2:]) for row in rows]


_CHARACTERS, _BYTES, _S = "characters", "bytes", "s"
LIMITS: dict[str, list[Limit]] = {
    "Requests": [
        Limit("body of a request, and a WebSocket's frame", "MAX_BODY_BYTES", _BYTES),
        Limit("time for a body to arrive", "BODY_TIMEOUT_S", _S),
        Limit("time for a request", "REQUEST_TIMEOUT_S", _S),
        Limit("requests under way in one web process", "MAX_IN_FLIGHT"),
        *_of("api.resources", ("MOST_WAITING", "calls of files, batches, kept answers that wait"),
             ("MOST_QUERY_PARAMETERS", "parameters of a query")),
        *_of("api.management.operation", ("MOST_BYTES", "body, management API", _BYTES)),
    ],
    "Chat and completions": [
        *_of("api.chat_completions.wire", ("MOST_MESSAGES", "messages of a chat"),
             ("MOST_DOCUMENTS", "`documents` of a chat")),
        *_of("api.chat_completions.prompting", ("MOST_DOCUMENTS_BYTES", "all of these", _BYTES),
             ("MOST_TEMPLATE_KWARGS_BYTES", "`chat_template_kwargs`", _BYTES)),
        *_of("api.chat_completions.messages", ("MOST_CALLS", "earlier calls in one message")),
        *_of("api.chat_completions.tools", ("MOST_TOOLS", "tools"),
             ("MOST_TOOLS_BYTES", "all of these", _BYTES)),
        *_of("api.completions.wire", ("MOST_PROMPTS", "prompts of a completion"),
             ("MOST_LOGPROBS", "`logprobs` of a completion"),
             ("MOST_SCORED_PROMPT_TOKENS", "prompt with `echo` and `logprobs`", "tokens")),
        *_of("api.parameters", ("MOST_CHOICES", "`n` and `best_of`"),
             ("MOST_STOPS", "`stop` and `stop_token_ids`"),
             ("MOST_STOP_CHARACTERS", "a stop text or bad word", _CHARACTERS),
             ("MOST_LOGIT_BIASES", "`logit_bias`", "entries"),
             ("MOST_TOP_LOGPROBS", "`top_logprobs` of a chat"), ("MOST_BAD_WORDS", "`bad_words`"),
             ("MOST_METADATA", "`metadata`", "pairs"),
             ("MOST_METADATA_KEY", "a name in `metadata`", _CHARACTERS),
             ("MOST_METADATA_VALUE", "a value in `metadata`", _CHARACTERS)),
        *_of("api.controls", ("LONGEST_AGE_S", "`max-age` of the response cache", _S)),
    ],
    "Structured output": _of(
        "api.structured_outputs", ("MOST_SCHEMA_BYTES", "schema", _BYTES),
        ("MOST_SCHEMA_DEPTH", "its depth", "levels"), ("MOST_PROPERTIES", "its properties"),
        ("MOST_ENUM_VALUES", "its enum values"),
        ("MOST_REGEX_CHARACTERS", "regular expression", _CHARACTERS),
        ("MOST_REGEX_SIZE", "the same with repetitions written out"),
        ("MOST_REGEX_DEPTH", "its groups", "levels"), ("MOST_CHOICES", "choices"),
        ("MOST_CHOICE_CHARACTERS", "a choice", _CHARACTERS),
        ("MOST_GRAMMAR_CHARACTERS", "grammar", _CHARACTERS),
    ),
    "Embeddings, rerank, tokens": [
        *_of("api.embeddings.handler", ("MOST_INPUTS", "inputs of an embedding")),
        *_of("api.scoring.wire", ("MOST_DOCUMENTS", "documents, or each side of a score")),
        *_of("api.tokenize.handler", ("MOST_TOKENS", "`tokens` of detokenize")),
    ],
    "Responses and messages": [
        *_of("api.responses.wire", ("MOST_ITEMS", "items of a conversation")),
        *_of("inference.answers.selectors", ("MOST_TURNS", "turns before a response"),
             ("MOST_CONVERSATION_BYTES", "these as they are stored", _BYTES)),
        *_of("api.messages.wire", ("MOST_BLOCKS", "blocks of one message"),
             ("LEAST_THINKING_TOKENS", "`thinking.budget_tokens`, at least")),
        Limit("background responses of an organization, queued or in progress", "BACKGROUND_MAX_OPEN"),
        Limit("a background response from its request to its end", "BACKGROUND_EXPIRY_S", _S),
        Limit("answers that an organization keeps", "ANSWERS_ORGANIZATION_BYTES", _BYTES),
    ],
    "Files and batches": [
        Limit("a file", "MAX_FILE_BYTES", _BYTES),
        Limit("time for a file to arrive", "UPLOAD_TIMEOUT_S", _S),
        Limit("uploads at once at a gateway", "MAX_UPLOADS"),
        *_of("api.files.form", ("MOST_FIELDS", "fields of an upload"),
             ("MOST_FIELD_BYTES", "a field beside the file", _BYTES),
             ("MOST_FILENAME_CHARACTERS", "a file's name; the end is kept", _CHARACTERS)),
        *_of("api.files.wire", ("LEAST_EXPIRY_S", "`expires_after`, at least", _S),
             ("MOST_EXPIRY_S", "`expires_after`, at most", _S)),
        Limit("requests of a batch", "MAX_BATCH_LINES"),
        *_of("inference.batches.actions", ("MOST_OPEN", "batches of an organization at once")),
        *_of("inference.batches.requests", ("MOST_CUSTOM_ID_CHARACTERS", "`custom_id`", _CHARACTERS)),
        *_of("inference.batches.validation", ("MOST_FAULTS", "lines that `errors` names")),
    ],
    "Streams and sockets": [
        Limit("requests at once on one socket", "WEBSOCKET_MAX_REQUESTS"),
        Limit("sockets of a key at a gateway", "WEBSOCKET_MAX_PER_KEY"),
        Limit("sockets of an organization at a gateway", "WEBSOCKET_MAX_PER_ORGANIZATION"),
        Limit("a socket on which nothing happens", "WEBSOCKET_IDLE_S", _S),
        *_of("api.stream.consumer", ("MESSAGES_AT_ONCE", "frames of a client at once"),
             ("MESSAGES_PER_S", "frames of a client a second"),
             ("MOST_HEADERS", "headers beside one request")),
        *_of("tenants.tickets", ("LONGEST_S", "a ticket, unless it is used", _S),
             ("MOST_A_MINUTE", "tickets of a key a minute")),
        *_of("inference.stream_log", ("MOST_BYTES", "a stream that can be resumed", _BYTES),
             ("MOST_EVENTS", "its events")),
        Limit("a resumable stream that nobody reads", "RESUME_GRACE_S", _S),
    ],
    "Caches": [
        *_of("inference.response_cache", ("MOST_BYTES", "an answer that is kept", _BYTES)),
        *_of("inference.semantic_cache",
             ("MOST_CHARACTERS", "a question that is compared", _CHARACTERS),
             ("MOST_ENTRIES", "answers of an organization"),
             ("MOST_BYTES", "such an answer", _BYTES)),
    ],
    "Organizations": [
        *_of("tenants.actions.invitations", ("MOST_PENDING", "invitations that are open"),
             ("MOST_PROJECTS", "projects of an invitation")),
        *_of("tenants.actions.projects", ("MOST_MODEL_NAMES", "models that a project names")),
        *_of("tenants.networks", ("MOST_NETWORKS", "networks of a key")),
        *_of("tenants.actions.single_sign_on", ("MOST_PROVIDERS", "identity providers")),
        *_of("api.management.wire", ("MOST_FILTERED", "values of one filter")),
        *_of("api.management.spend_limits.wire", ("MOST_CENTS", "a spend limit", "cents")),
        *_of("billing.spend_alerts", ("MOST_ALERTS", "spend alerts"),
             ("MOST_RECIPIENTS", "recipients of one")),
        *_of("billing.spend_watch", ("MOST_MAILS_A_DAY", "mails of spend alerts a day")),
    ],
    "Webhooks": [
        *_of("tenants.actions.webhooks", ("MOST_ENDPOINTS", "endpoints of an organization"),
             ("MOST_WAITING_BY_HAND", "tests and replays that wait for one")),
        *_of("tenants.outbound.urls", ("LONGEST_URL", "a URL", _CHARACTERS)),
        *_of("tenants.webhooks.outbox", ("ATTEMPTS", "attempts of a delivery"),
             ("MOST_WAITING", "deliveries that wait for an endpoint")),
        *_of("tenants.webhooks.sending", ("WHOLE_ATTEMPT_S", "an attempt", _S),
             ("KEPT_ANSWER_BYTES", "what the log keeps of an answer", _BYTES)),
    ],
}  # fmt: skip
# Bounds of the inside: of buffers, sweeps and retries that no client meets as a refusal.
INTERNAL = {
    "api.batches.bodies:MOST_READ_BYTES": "read of a file at once",
    "api.batches.executor:MOST_UNCOMMITTED": "lines that are done and not written yet",
    "api.batches.executor:MOST_BYTES": "bodies in memory",
    "api.batches.lane:LEAST_FACTOR": "how slowly a lane may go",
    "api.batches.wire:MOST_METADATA": "the same as api.parameters:MOST_METADATA",
    "api.batches.wire:MOST_METADATA_KEY": "the same as api.parameters:MOST_METADATA_KEY",
    "api.batches.wire:MOST_METADATA_VALUE": "the same as api.parameters:MOST_METADATA_VALUE",
    "api.counting:MOST_COUNTED_TOKENS": "more than any body holds",
    "api.prompts:MOST_TOKENS": "more than any body holds",
    "api.key_principals:MOST_KNOWN": "keys that are remembered",
    "api.resolve:MOST_FALLBACKS": "of models, which staff set",
    "api.resolve:LONGEST_RETRY_S": "what a refusal tells at most",
    "api.responses.making:LONGEST_WAIT_S": "between two tries",
}


def limit_tables() -> str:
    parts = []
    for group, limits in LIMITS.items():
        rows = [(each.what, each.told + _setting(each)) for each in limits]
        parts.append(f"## {group}\n\n{table(('', 'at most'), rows)}")
    return "\n".join(parts)


def _setting(limit: Limit) -> str:
    return "" if ":" in limit.source else f" (`{limit.source}`)"
