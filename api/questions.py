"""What of a chat request may be compared by meaning: its last user message, if anything."""

from __future__ import annotations

import msgspec

from api.chat_completions.wire import ChatRequest
from api.controls import Controls
from inference.semantic_cache import Question, fits
from inference.wire import Sampling
from tenants.principal import Principal

# Fields that say nothing of what the answer is.
_APART = {
    "model": "",  # the version that answers counts instead, by whatever name it was asked for
    "stream": None,
    "stream_options": None,
    "user": None,
    "safety_identifier": None,
    "prompt_cache_key": None,
    "metadata": None,
    "store": None,
    "service_tier": None,
}


def question_of(
    body: ChatRequest, sampling: Sampling, principal: Principal, controls: Controls
) -> Question | None:
    """None unless organization and request agree to an answer that was another question's."""
    if not _is_wanted(sampling, principal, controls) or body.tools:
        return None
    last = body.messages[-1]
    content = last.content
    if isinstance(content, list):
        content = "".join(part.text or "" for part in content)
    if last.role != "user" or content is None or not fits(content):
        return None
    before = [*body.messages[:-1], msgspec.structs.replace(last, content=None)]
    rest = msgspec.structs.replace(body, messages=before, **_APART)
    return Question(content, msgspec.msgpack.encode(rest))


def _is_wanted(sampling: Sampling, principal: Principal, controls: Controls) -> bool:
    if principal.semantic_cache == "off" or sampling.logprobs is not None:
        return False
    if sampling.parsing is not None:  # calls of tools and reasoning are more than a text
        return False
    if controls.wants_semantic is None:
        # Who did not ask by name gets another's answer only where theirs would be the
        # same every time.
        is_fixed = sampling.temperature == 0.0 or sampling.seed is not None
        return principal.semantic_cache == "all" and is_fixed
    return controls.wants_semantic
