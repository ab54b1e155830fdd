"""What the types of request bodies cannot say: bounds that the handlers hold values to.

By the class that declares a field, so that forms which extend it have them too. A fragment of
JSON schema takes the place of what the type would give. Each is tried out by a test.
"""

from __future__ import annotations

from typing import Any

from api.batches.wire import MOST_METADATA_KEY, MOST_METADATA_VALUE, CreateBatch
from api.chat_completions.messages import Call, Message, Part
from api.chat_completions.tools import Tool
from api.chat_completions.wire import ChatRequest
from api.completions.wire import MOST_PROMPTS, CompletionRequest
from api.embeddings.handler import MOST_INPUTS, EmbeddingRequest
from api.files.wire import UploadFields
from api.messages.wire import Block, CountRequest
from api.messages.wire import Tool as AnthropicTool
from api.parameters import MOST_LOGIT_BIASES, MOST_METADATA, MOST_STOP_CHARACTERS, MOST_STOPS
from api.parameters import SamplingFields as Sampling
from api.responses.items import CallItem, CallOutputItem, MessageItem, ReasoningItem
from api.responses.items import Part as ItemPart
from api.responses.wire import HANDED_ON, FunctionTool, Reasoning, ResponseRequest, TextConfig
from api.responses.wire import PromptFields as ResponsePrompt
from api.scoring.wire import MOST_DOCUMENTS, RerankRequest, ScoreRequest, ScoringFields
from api.stream.tickets import ORIGIN, TicketRequest
from api.structured_outputs import (
    MOST_CHOICE_CHARACTERS,
    MOST_CHOICES,
    MOST_GRAMMAR_CHARACTERS,
    MOST_REGEX_CHARACTERS,
    ResponseFormat,
    StructuredFields,
    StructuredOutputs,
)
from api.uploads.wire import CreateUpload
from inference.batches.actions import SCOPES as BATCHED

Fragment = dict[str, Any]
NULL: Fragment = {"type": "null"}
OBJECT: Fragment = {"type": "object"}


def _text(least: int = 0, most: int | None = None) -> Fragment:
    made: Fragment = {"type": "string"}
    if least:
        made["minLength"] = least
    return made if most is None else made | {"maxLength": most}


def _list(items: Fragment, least: int = 0, most: int | None = None) -> Fragment:
    made: Fragment = {"type": "array", "items": items, "minItems": least}
    return made if most is None else made | {"maxItems": most}


def _either(*forms: Fragment) -> Fragment:
    return {"anyOf": list(forms)}


def _one_of(*values: str | None) -> Fragment:
    return {"enum": list(values)}


IDS = _list({"type": "integer", "minimum": 0}, 1)


def _inputs(most: int) -> Fragment:
    """A text, token ids, or a list of either."""
    return _either(_text(1), IDS, _list(_either(_text(1), IDS), 1, most))


DOCUMENT = _either(_text(1), OBJECT | {"properties": {"text": _text(1)}, "required": ["text"]})
SIDE = _either(_text(1), _list(DOCUMENT, 1, MOST_DOCUMENTS), NULL)
TIER = _one_of("auto", "default", "flex", "priority", None)
CHOICES = _list(_text(1, MOST_CHOICE_CHARACTERS), 1, MOST_CHOICES)
REGEX, GRAMMAR = _text(1, MOST_REGEX_CHARACTERS), _text(1, MOST_GRAMMAR_CHARACTERS)
STOP = _text(1, MOST_STOP_CHARACTERS)
NAMED_TOOL: Fragment = OBJECT | {
    "properties": {
        "type": {"const": "function"},
        "function": OBJECT | {"properties": {"name": _text(1, 64)}, "required": ["name"]},
    },
    "required": ["function"],
}
NAMED_FUNCTION: Fragment = OBJECT | {
    "properties": {"type": {"const": "function"}, "name": _text(1, 64)},
    "required": ["type", "name"],
}
METADATA: Fragment = OBJECT | {
    "maxProperties": MOST_METADATA,
    "propertyNames": _text(1, MOST_METADATA_KEY) | {"pattern": "^[^\\u0000]*$"},
    "additionalProperties": _text(0, MOST_METADATA_VALUE) | {"pattern": "^[^\\u0000]*$"},
}

BOUNDS: dict[type, dict[str, Fragment]] = {
    Sampling: {
        "stop": _either(STOP, _list(STOP, 0, MOST_STOPS), NULL),
        "logit_bias": _either(
            OBJECT
            | {
                "maxProperties": MOST_LOGIT_BIASES,
                "propertyNames": {"pattern": "^[0-9]{1,9}$"},
                "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
            },
            NULL,
        ),
        "bad_words": _either(_list(STOP, 0, 128), NULL),
        "service_tier": TIER,
    },
    StructuredFields: {
        "guided_regex": _either(REGEX, NULL),
        "guided_choice": _either(CHOICES, NULL),
        "guided_grammar": _either(GRAMMAR, NULL),
    },
    StructuredOutputs: {
        "regex": _either(REGEX, NULL),
        "choice": _either(CHOICES, NULL),
        "grammar": _either(GRAMMAR, NULL),
    },
    ResponseFormat: {"type": _one_of("text", "json_object", "json_schema", "structural_tag")},
    ChatRequest: {
        "tool_choice": _either(_one_of("none", "auto", "required"), NAMED_TOOL, NULL),
        "modalities": _either(_list({"const": "text"}, 1, 1), NULL),
        "verbosity": _one_of("medium", None),
    },
    Tool: {"type": {"const": "function"}},
    Message: {"role": _one_of("system", "developer", "user", "assistant", "tool")},
    Part: {"type": _one_of("text", "refusal")},
    Call: {"type": {"const": "function"}},
    CompletionRequest: {"prompt": _inputs(MOST_PROMPTS)},
    EmbeddingRequest: {"input": _inputs(MOST_INPUTS), "service_tier": TIER},
    ScoringFields: {"service_tier": TIER},
    RerankRequest: {"query": _text(1), "documents": _list(DOCUMENT, 1, MOST_DOCUMENTS)},
    ScoreRequest: dict.fromkeys(
        ("text_1", "text_2", "queries", "documents", "items", "data_1", "data_2"), SIDE
    ),
    ResponsePrompt: {
        "tool_choice": _either(_one_of("none", "auto", "required"), NAMED_FUNCTION, NULL)
    },
    FunctionTool: {"type": {"const": "function"}},
    TextConfig: {"verbosity": _one_of("medium", None)},
    ItemPart: {"type": _one_of("input_text", "output_text", "text", "refusal")},
    MessageItem: {"type": {"const": "message"}},
    CallItem: {"type": {"const": "function_call"}},
    CallOutputItem: {"type": {"const": "function_call_output"}},
    ReasoningItem: {"type": {"const": "reasoning"}},
    Block: {
        "type": _one_of(
            "text", "tool_use", "tool_result", "thinking", "redacted_thinking"
        )
    },
    AnthropicTool: {"type": _one_of("custom", None)},
    CountRequest: {"speed": _one_of("standard", None)},
    UploadFields: {"purpose": {"const": "batch"}},
    CreateUpload: {"purpose": {"const": "batch"}},
    CreateBatch: {
        "endpoint": _one_of(*BATCHED),
        "metadata": _either(METADATA, NULL),
    },
    TicketRequest: {
        "origin": {"type": "string", "pattern": f"^(?:{ORIGIN.pattern})$", "maxLength": 300}
    },
}  # fmt: skip
# A response's values that choose tokens have the bounds of the chat that it becomes.
AS_IN_A_CHAT: dict[tuple[type, str], str] = {
    **{(ResponseRequest, name): name for name in HANDED_ON},
    (ResponseRequest, "max_output_tokens"): "max_completion_tokens",
    (ResponseRequest, "top_logprobs"): "top_logprobs",
    (Reasoning, "effort"): "reasoning_effort",
}
# Types that no field names: a response's input is converted item by item.
ITEMS = (MessageItem, CallItem, CallOutputItem, ReasoningItem)
