"""What travels between a gateway and an engine worker, as MessagePack arrays.

Gateway → worker: ``Submission`` in a Celery message (task ``inference.generate``
on queue ``replica.<id>``), ``Abort`` and ``Order`` on stream ``control.<replica>``.
Worker → gateway: ``Delta`` in lists on stream ``mailbox.<gateway>``, one message
for each engine step and gateway; ``Heartbeat`` on stream ``fleet.heartbeats``.

A field is only ever added at the end, with a default: processes of two releases
talk to each other during a rolling restart.
"""

from __future__ import annotations

from typing import Any

import msgspec

GENERATE_TASK = "inference.generate"
HEARTBEATS = "fleet.heartbeats"
WORKER_USAGE = "usage.worker"
# Longer than a hold lives: the reconciler must still find the worker's note.
WORKER_USAGE_KEPT_S = 3600


def queue_of(replica: str) -> str:
    return f"replica.{replica}"


def control_of(replica: str) -> str:
    return f"control.{replica}"


def mailbox_of(gateway: str) -> str:
    return f"mailbox.{gateway}"


class Parsing(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an engine takes a chat answer's text apart, with its model's parsers.

    In OpenAI's terms. What is called, or must be, may also constrain the output.
    """

    tools: list[dict[str, Any]] = []
    tool_choice: str = "none"  # none, auto, required or named
    named: str = ""  # the function, of "named"
    parallel_tool_calls: bool = True
    include_reasoning: bool = True
    template_kwargs: dict[str, Any] = {}
    is_streamed: bool = True  # else the whole text is parsed at once, at its end
    past_tool_calls: int = 0  # in the conversation; some models number their calls

    @property
    def may_constrain(self) -> bool:
        """Whether the engine may put a grammar on the output for the tools' sake."""
        if not self.tools or self.tool_choice == "none":
            return False
        return (
            self.tool_choice != "auto"
            or not self.parallel_tool_calls
            or any(tool.get("function", {}).get("strict") for tool in self.tools)
        )


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """How to choose tokens, in vLLM's own names and ranges; defaults are vLLM's."""

    max_tokens: int = 16
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: list[str] = []
    stop_token_ids: list[int] = []
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    logprobs: int | None = None
    logit_bias: dict[int, float] | None = None
    bad_words: list[str] = []
    allowed_token_ids: list[int] | None = None
    # One of json, regex, choice, grammar, json_object: vLLM's StructuredOutputsParams.
    structured: dict[str, Any] | None = None
    structured_field: str = ""  # of the request that asked for it: errors name it
    parsing: Parsing | None = None
    prompt_logprobs: int | None = None  # with the first delta

    @property
    def can_continue(self) -> bool:
        """Whether output can go on elsewhere from ``prompt + tokens so far`` unchanged.

        What an engine can be given to go on is in ``workers.engines.resume``. It cannot be
        given a grammar's state, a random generator's (which greedy sampling never asks),
        nor which tokens a presence penalty or a bad word has seen; a frequency penalty
        becomes a bias, which a repetition penalty would multiply.
        """
        return (
            self.structured is None
            and (self.parsing is None or not self.parsing.may_constrain)
            and (self.seed is None or self.temperature == 0.0)
            and not self.presence_penalty
            and (not self.frequency_penalty or self.repetition_penalty == 1.0)
            and not self.bad_words
        )


class Submission(msgspec.Struct, frozen=True, array_like=True):
    """One sequence to run. ``offset`` tokens of it were already emitted elsewhere."""

    request_id: str  # minted by the gateway, never by a client
    attempt: int  # rises with every dispatch; a delta of an older attempt is dropped
    gateway: str
    incarnation: str  # the worker's life it was routed to; another refuses it
    organization: int
    weight: int  # the organization's fair share
    prompt_ids: list[int]
    sampling: Sampling | None  # None: an embedding
    cache_salt: str
    submitted_at: float  # Unix seconds, the gateway's clock
    offset: int = 0
    tier: str = "standard"  # priority, standard, flex or batch: who waits for whom
    # Of two texts that are scored together: where the second begins, as models tell them apart.
    pair_at: int = 0

    @property
    def engine_id(self) -> str:
        return engine_id(self.request_id, self.attempt)


def engine_id(request_id: str, attempt: int) -> str:
    """One attempt of one sequence, as engines and aborts name it."""
    return f"{request_id}#{attempt}"


class Logprob(msgspec.Struct, frozen=True, array_like=True):
    """One token's log probability, and the most likely alternatives."""

    token_id: int
    text: str
    logprob: float
    top: list[tuple[int, str, float]]


class ToolCallPart(msgspec.Struct, array_like=True):
    """Some of one tool call: its first part has id and name, each some of the arguments."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class MessagePart(msgspec.Struct, array_like=True):
    """What a parser found beside the content, which is the delta's text."""

    reasoning: str = ""
    tool_calls: list[ToolCallPart] = []
    reasoning_tokens: int = 0  # with the last part, of the whole output

    def plus(self, part: MessagePart) -> MessagePart:
        """Both as one; ``part`` follows."""
        return MessagePart(
            self.reasoning + part.reasoning,
            self.tool_calls + part.tool_calls,
            self.reasoning_tokens + part.reasoning_tokens,
        )


class Delta(msgspec.Struct, array_like=True):
    """Part of one sequence's output: tokens ``offset … offset + len(token_ids)``.

    The last delta has ``finish_reason``: stop, length, abort or error; on error
    ``error`` says why. Engines name it by ``engine_id`` and leave attempt and
    offset at 0; the host fills them in.
    """

    request_id: str
    attempt: int
    offset: int
    token_ids: list[int]
    text: str
    finish_reason: str = ""
    stop_reason: int | str | None = None
    error: str = ""
    cached_tokens: int = 0
    logprobs: list[Logprob] | None = None
    embedding: bytes = b""  # little-endian float32
    engine_us: int = 0  # the sequence's share of its engine's time since its last delta
    retry_after_ms: int = 0  # with "overloaded": when there is probably room again
    message: MessagePart | None = None
    prompt_logprobs: list[Logprob] | None = None  # of the prompt's tokens but the first
    detail: str = ""  # with "invalid_parameters": why, in words for the client


class WorkerUsage(msgspec.Struct, frozen=True, array_like=True):
    """What a finished sequence used, noted by its worker in case its gateway dies."""

    request_id: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finish_reason: str
    replica: str
    finished_at: float
    engine_us: int = 0


class Abort(msgspec.Struct, frozen=True, array_like=True):
    """Stop these sequences, named by ``engine_id`` so that a later attempt is spared."""

    engine_ids: list[str]


class Order(msgspec.Struct, frozen=True, array_like=True):
    """What staff ask of a replica: ``drain``, ``serve`` again, or ``restart``.

    Of one life of it: another one reads the same stream and was asked nothing.
    """

    verb: str
    incarnation: str


class Heartbeat(msgspec.Struct, frozen=True, array_like=True):
    """A replica's state, every half second; routing reads nothing else of it."""

    replica: str
    incarnation: str  # new at every start; tells a restarted replica from a slow one
    deployment: int
    version: int
    state: str  # models.Replica.State
    engine: str
    node: str
    started_at: float
    running: int = 0
    waiting: int = 0
    kv_cache_usage: float = 0.0
    tokens_per_second: float = 0.0
    capacity: int = 64
    # Measured on this replica, for whoever predicts how long it will take; 0: not yet.
    prefill_tokens_per_s: float = 0.0
    decode_ms: float = 0.0  # of one step, at the load of the last seconds
    kv_tokens: int = 0  # how many tokens its KV cache holds; 0: not known
    is_proven: bool = True  # a token came out lately, or the probe's did
    bypass: str = ""  # host:port/token, for gateways that cannot hear Redis (``bypass``)
    queue_wait_ms: float = 0.0  # of 95 in 100 that entered the engine within the last minute


encode = msgspec.msgpack.Encoder().encode
decode_deltas = msgspec.msgpack.Decoder(list[Delta]).decode
decode_heartbeat = msgspec.msgpack.Decoder(Heartbeat).decode
decode_worker_usage = msgspec.msgpack.Decoder(list[WorkerUsage]).decode
decode_abort = msgspec.msgpack.Decoder(Abort).decode
decode_order = msgspec.msgpack.Decoder(Order).decode
decode_submissions = msgspec.msgpack.Decoder(list[Submission]).decode
