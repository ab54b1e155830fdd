"""Sampling parameters shared by chat and completions: their wire form and their ranges.

Ranges are OpenAI's where it has one and vLLM's otherwise; whatever passes here
cannot harm an engine. ``docs/api.md`` lists the numbers.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api.structured_outputs import StructuredFields, has_constraint, structured_of
from inference.errors import ContextLengthExceeded, InvalidRequest
from inference.registry import Served
from inference.wire import Parsing, Sampling
from tenants.principal import Principal

MOST_CHOICES = 16
MOST_STOPS = 16
MOST_STOP_CHARACTERS = 256
MOST_LOGIT_BIASES = 1024
MOST_TOP_LOGPROBS = 20
MOST_BAD_WORDS = 128
# OpenAI's of metadata.
MOST_METADATA = 16
MOST_METADATA_KEY = 64
MOST_METADATA_VALUE = 512

Metadata = Annotated[
    dict[
        Annotated[str, Meta(max_length=MOST_METADATA_KEY)],
        Annotated[str, Meta(max_length=MOST_METADATA_VALUE)],
    ],
    Meta(max_length=MOST_METADATA),
]
Penalty = Annotated[float, Meta(ge=-2.0, le=2.0)]


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None  # vLLM's: usage so far with each chunk
    include_obfuscation: bool | None = None  # accepted; chunks have no padding here


class SamplingFields(StructuredFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields of a request's body that choose tokens; None is the same as absent."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=MOST_CHOICES)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    min_p: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0.0, le=2.0)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: str | list[str] | None = None
    stop_token_ids: Annotated[list[int], Meta(max_length=MOST_STOPS)] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    logit_bias: dict[str, float] | None = None
    bad_words: Annotated[list[str], Meta(max_length=MOST_BAD_WORDS)] | None = None
    allowed_token_ids: Annotated[list[int], Meta(min_length=1, max_length=4096)] | None = None
    # Accepted for compatibility; they change nothing here.
    user: Annotated[str, Meta(max_length=512)] | None = None
    safety_identifier: Annotated[str, Meta(max_length=512)] | None = None
    prompt_cache_key: Annotated[str, Meta(max_length=512)] | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory"] | None = None
    metadata: Metadata | None = None
    service_tier: str | None = None
    store: bool | None = None


# OpenAI's names and ours. "auto" is what a project's settings say there; here it is default.
_TIERS = {None: "standard", "auto": "standard", "default": "standard", "flex": "flex"}
_TIER_NAMES = {"standard": "default"}


def tier_of(asked: str | None, principal: Principal) -> str:
    """The class a request runs in. Who asks for priority and has not bought it gets the default,
    as at OpenAI; the answer says which it was."""
    if principal.tier is not None:
        return principal.tier
    if asked == "priority":
        return "priority" if principal.allows_priority else "standard"
    if asked not in _TIERS:
        refuse(service_tier=asked)
    return _TIERS[asked]


def tier_name(tier: str) -> str:
    """As answers call it."""
    return _TIER_NAMES.get(tier, tier)


def refuse(**fields: Any) -> None:
    """Refuse, by name, parameters that exist elsewhere but are not supported here."""
    for name, value in fields.items():
        if value is not None and value not in (False, [], {}):
            error = InvalidRequest(
                f"The parameter '{name}' is not supported by this server.", param=name
            )
            error.code = "unsupported_parameter"
            raise error


def output_limit(
    asked: int | None, prompt_tokens: int, served: Served, param: str, prompt_param: str
) -> int:
    """Most output tokens that fit the context, at most what was asked for."""
    most = served.max_context_tokens
    if prompt_tokens + (asked or 1) > most:
        asked_part = f" and {asked} in the completion" if asked else ""
        raise ContextLengthExceeded(
            f"This model's maximum context length is {most} tokens. However, you requested "
            f"{prompt_tokens + (asked or 0)} tokens ({prompt_tokens} in the prompt{asked_part}). "
            "Please reduce the length.",
            param=prompt_param if prompt_tokens >= most else param,
        )
    return asked if asked is not None else most - prompt_tokens


def sampling_of(
    body: SamplingFields,
    max_tokens: int,
    served: Served,
    logprobs: int | None,
    parsing: Parsing | None = None,
    prompt_logprobs: int | None = None,
) -> Sampling:
    """The validated ``Sampling`` of a request; raises InvalidRequest naming the field.

    What the request leaves open is as the model's own generation config says, else
    OpenAI's default.
    """
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            param="stream_options",
        )
    if (body.min_tokens or 0) > max_tokens:
        raise InvalidRequest(
            f"'min_tokens' must not be above the {max_tokens} tokens that can be produced.",
            param="min_tokens",
        )
    passed_on = zip(_PASSED_ON, _get_passed_on(body), strict=True)
    chosen = {name: value for name, value in passed_on if value is not None}
    if chosen.get("top_k") == -1:
        chosen["top_k"] = 0
    vocabulary = served.renderer.vocab_size
    _check_token_ids(body.stop_token_ids, vocabulary, "stop_token_ids")
    _check_token_ids(body.allowed_token_ids, vocabulary, "allowed_token_ids")
    for index, word in enumerate(body.bad_words or ()):
        if not 0 < len(word) <= MOST_STOP_CHARACTERS:
            raise InvalidRequest(
                f"Each bad word has 1 to {MOST_STOP_CHARACTERS} characters.",
                param=f"bad_words[{index}]",
            )
    if parsing is not None or prompt_logprobs is not None or has_constraint(body):
        structured, field = structured_of(body)
        if parsing is not None and parsing.may_constrain:
            field = field or "tools"
        chosen |= {
            "structured": structured,
            "structured_field": field,
            "parsing": parsing,
            "prompt_logprobs": prompt_logprobs,
        }
    if served.renderer.sampling_defaults:
        chosen = served.renderer.sampling_defaults | chosen
    return Sampling(
        max_tokens=max_tokens,
        stop=_stops(body.stop),
        logit_bias=_biases(body.logit_bias, vocabulary),
        logprobs=logprobs,
        **chosen,
    )


_PASSED_ON = tuple(
    name
    for name in Sampling.__struct_fields__
    if name in SamplingFields.__struct_fields__ and name not in {"max_tokens", "stop", "logit_bias"}
)
_get_passed_on = attrgetter(*_PASSED_ON)


def _stops(stop: str | list[str] | None) -> list[str]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if len(stops) > MOST_STOPS:
        raise InvalidRequest(f"'stop' has at most {MOST_STOPS} strings.", param="stop")
    for index, text in enumerate(stops):
        if not 0 < len(text) <= MOST_STOP_CHARACTERS:
            raise InvalidRequest(
                f"Each stop string has 1 to {MOST_STOP_CHARACTERS} characters.",
                param="stop" if isinstance(stop, str) else f"stop[{index}]",
            )
    return stops


def _biases(biases: dict[str, float] | None, vocabulary: int) -> dict[int, float] | None:
    if not biases:
        return None
    if len(biases) > MOST_LOGIT_BIASES:
        raise InvalidRequest(
            f"'logit_bias' has at most {MOST_LOGIT_BIASES} entries.", param="logit_bias"
        )
    found = {}
    for name, bias in biases.items():
        if not (name.isascii() and name.isdigit() and len(name) < 10 and int(name) < vocabulary):
            raise InvalidRequest(
                f"'{name[:40]}' is no token id of this model (0 to {vocabulary - 1}).",
                param="logit_bias",
            )
        if not -100.0 <= bias <= 100.0:
            raise InvalidRequest("A logit bias lies between -100 and 100.", param="logit_bias")
        found[int(name)] = bias
    return found


def _check_token_ids(ids: list[int] | None, vocabulary: int, param: str) -> None:
    for index, token_id in enumerate(ids or ()):
        if not 0 <= token_id < vocabulary:
            raise InvalidRequest(
                f"{token_id} is no token id of this model (0 to {vocabulary - 1}).",
                param=f"{param}[{index}]",
            )
