"""Fields that clients know and that are refused here by their name, with the reason.

They are in the wire types so that the refusal can say so; the document and the table of
conformance tell why from here. Each is tried out by a test.
"""

from __future__ import annotations

from api.chat_completions.messages import Message, Part
from api.chat_completions.tools import Tool
from api.chat_completions.wire import ChatRequest
from api.completions.wire import CompletionRequest
from api.messages.wire import CountRequest, MessagesRequest
from api.responses.wire import PromptFields, Reasoning, ResponseRequest, TokenCountRequest
from api.scoring.wire import RerankRequest, ScoringFields
from api.tokenize.handler import TokenizeRequest

_MEDIA = "no model here looks at images or listens"
_OLD_TOOLS = "OpenAI's old form of tools"
_TEMPLATE = "a template is a program"
_SCREENING = "the organization's policy screens"
_CACHED = "prefixes are cached always"
_COMPACTION = "nothing is left out of a context but by `truncation`"

REFUSED: dict[type, dict[str, str]] = {
    ChatRequest: {
        "functions": _OLD_TOOLS,
        "function_call": _OLD_TOOLS,
        "audio": "no model here speaks",
        "prediction": "no draft of the client's is used",
        "web_search_options": "nothing is searched",
        "moderation": _SCREENING,
        "prompt_cache_options": _CACHED,
        "chat_template": _TEMPLATE,
    },
    CompletionRequest: {
        "suffix": "no model here fills in the middle",
        "store": "only chat completions and responses are kept",
    },
    Message: {"audio": _MEDIA, "function_call": _OLD_TOOLS},
    Part: dict.fromkeys(("image_url", "input_audio", "file", "audio_url", "video_url"), _MEDIA),
    Tool: {"custom": "parsers know functions only"},
    PromptFields: {
        "conversation": "conversations are not stored; `previous_response_id` follows turns",
        "prompt": "no prompts are stored",
    },
    Reasoning: {
        "generate_summary": "an item of reasoning holds all of it",
        "context": "what was thought comes back in items",
        "mode": "models here have one way to think",
    },
    ResponseRequest: {
        "context_management": _COMPACTION,
        "moderation": _SCREENING,
        "access_programs": "there are no such programs",
        "image": "no model here draws",
        "prompt_cache_options": _CACHED,
    },
    TokenCountRequest: {"personality": "models here have none to choose"},
    CountRequest: {
        "mcp_servers": "nothing is called from here",
        "context_management": _COMPACTION,
        "container": "nothing is run",
    },
    MessagesRequest: {
        "inference_geo": "everything runs where the platform does",
        "diagnostics": "there are none to be asked for",
        "user_profile_id": "no profiles are kept",
    },
    ScoringFields: {
        "priority": "`service_tier` says who waits for whom",
        "instruction": "models here read texts as they are",
        "chat_template_kwargs": "no template is used",
        "use_activation": "a score is as its model gives it",
    },
    RerankRequest: {
        "rank_fields": "documents have one text",
        "max_chunks_per_doc": "a document is read as one",
    },
    TokenizeRequest: {
        "chat_template": _TEMPLATE,
        "media_io_kwargs": _MEDIA,
        "mm_processor_kwargs": _MEDIA,
    },
}


def reason_of(form: type, field: str) -> str | None:
    """Why this field of a wire type is refused, also if it is of a form that it extends."""
    for base in form.__mro__:
        if field in REFUSED.get(base, {}):
            return REFUSED[base][field]
    return None
