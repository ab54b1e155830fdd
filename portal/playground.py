"""What the playground's pages are told: parameters with their ranges, words, errors in words.

Ranges are those of the API (``api.parameters``, which a door may not import; a test holds them
to each other) and, where a model decides, the model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from inference import catalogue
from inference.catalogue import Listed

MOST_STOPS = 16
# Of texts that are compared: a matrix of more is not read at a glance.
FEWEST_TEXTS, MOST_TEXTS = 2, 8


@dataclass(frozen=True)
class Parameter:
    """A number that a request may carry; empty leaves it to the model."""

    name: str
    label: str | Promise
    least: float
    most: float
    step: float
    middle: float  # where a slider stands while nothing is chosen
    help: str | Promise = ""

    @property
    def has_slider(self) -> bool:
        return self.name != "seed"


# What the number of tokens is called differs: OpenAI's chat has the longer name.
MAX_TOKENS = "max_tokens"
PARAMETERS = (
    Parameter("temperature", _("Temperature"), 0, 2, 0.05, 1, _("0 always takes the likeliest token.")),
    Parameter("top_p", _("Top P"), 0.01, 1, 0.01, 1, _("Only the likeliest tokens that make up this share.")),
    Parameter("frequency_penalty", _("Frequency penalty"), -2, 2, 0.1, 0),
    Parameter("presence_penalty", _("Presence penalty"), -2, 2, 0.1, 0),
    Parameter("seed", _("Seed"), 0, 2**31 - 1, 1, 0, _("The same seed and parameters give the same answer.")),
)  # fmt: skip


@dataclass(frozen=True)
class Mode:
    name: str
    label: str | Promise
    capability: str  # of the models that serve it
    endpoint: str
    template: str


MODES = {
    mode.name: mode
    for mode in (
        Mode("chat", _("Chat"), catalogue.CHAT, "/v1/chat/completions", "talk"),
        Mode("completion", _("Completion"), catalogue.COMPLETIONS, "/v1/completions", "talk"),
        Mode("embeddings", _("Embeddings"), catalogue.EMBEDDINGS, "/v1/embeddings", "embeddings"),
    )
}


def parameters_of(models: Sequence[Listed]) -> list[Parameter]:
    """With as many tokens as the longest context has; the script narrows it to the chosen model."""
    longest = max(model.max_context_tokens for model in models)
    tokens = Parameter(
        MAX_TOKENS, _("Maximum tokens"), 1, longest, 1, min(longest, 1_024),
        _("Of the answer; with the prompt it has to fit the context."),
    )  # fmt: skip
    return [tokens, *PARAMETERS]


def describe(model: Listed) -> dict[str, Any]:
    """A model as the page's script reads it."""
    return {
        "name": model.name,
        "context": model.max_context_tokens,
        "tools": catalogue.TOOLS in model.capabilities,
    }


# What the script says; ``{…}`` are filled in by it.
WORDS = {
    "you": _("You"),
    "edit": _("Edit"),
    "retry": _("Try again"),
    "copy": _("Copy"),
    "copied": _("Copied"),
    "cancel": _("Cancel"),
    "sendEdited": _("Send as a new branch"),
    "branch": _("Branch {n} of {all}"),
    "earlier": _("Earlier branch"),
    "later": _("Later branch"),
    "waiting": _("Waiting for the first token …"),
    "thinking": _("Reasoning"),
    "callOf": _("Calls {name}"),
    "resultOf": _("Result of {name}"),
    "sendResults": _("Send the results"),
    "results": _("Results of tools"),
    "tokens": _("{in} in, {out} out"),
    "cached": _("{n} cached"),
    "firstToken": _("first token {ms} ms"),
    "speed": _("{n} tokens/s"),
    "total": _("{s} s in all"),
    "fromCache": _("from the cache"),
    "stopped": _("Stopped."),
    "interrupted": _("Interrupted: the page was left before the end."),
    "length": _("Ended at the maximum number of tokens."),
    "filtered": _("Ended by the organization's screening."),
    "empty": _("The model answered with nothing."),
    "finished": _("The answer is complete."),
    "retryIn": _("Try again in {s} s."),
    "logIn": _("Log in again"),
    "left": _("{left} of {all} left"),
    "requests": _("Requests"),
    "tokensLimit": _("Tokens"),
    "notJson": _("This is not valid JSON: {why}"),
    "notTools": _("Write a list of tools, each with its type “function” and a function that has a name."),
    "notSchema": _("Write a JSON Schema: an object such as {\"type\": \"object\"}."),
    "outOfRange": _("Between {least} and {most}."),
    "noTools": _("{model} does not call tools."),
    "emptyText": _("Write something or remove this text."),
    "text": _("Text {n}"),
    "remove": _("Remove text {n}"),
    "embedded": _("{tokens} tokens · {size} dimensions · {ms} ms"),
    "notKept": _("This conversation is too long to be kept when the page is left."),
}  # fmt: skip

# By the code of the API's error object, and of what can happen on the way to it. What is not
# here is told as the API tells it.
PROBLEMS = {
    "session_ended": _("Your session has ended. What you wrote stays in this tab: log in again and go on."),
    "unreachable": _("The server cannot be reached right now. Nothing is lost: try again in a moment."),
    "connection_lost": _("The connection was lost before the answer was complete. What had arrived is kept."),
    "no_answer": _("No answer has come for two minutes. The request was stopped."),
    "server_stopped": _("The server restarted before the answer was complete. Try again."),
    "unavailable": _("The platform cannot take requests right now. Try again in a moment."),
    "service_unavailable": _("The platform cannot take requests right now. Try again in a moment."),
    "model_unavailable": _("No replica of this model is up right now. Try again in a moment, or choose another model."),
    "overloaded": _("The model has more requests than it can serve right now. Try again in a moment."),
    "engine_error": _("The engine could not finish this request. Try again; it was not billed."),
    "request_timeout": _("The request took longer than it may."),
    "rate_limit_exceeded": _("A limit of your plan or project is reached."),
    "too_many_requests": _("Too many requests at the same time."),
    "insufficient_quota": _("The month's tokens, a budget or the prepaid credit are used up."),
    "content_policy_violation": _("The organization's screening refused this."),
    "context_length_exceeded": _("The conversation does not fit the model's context any more. Shorten it or begin a new one."),
    "organization_suspended": _("This organization is suspended: no requests are answered."),
    "model_not_found": _("This project may not use this model, or it is not served any more."),
    "insufficient_permissions": _("You may not call models in this project any more."),
    "invalid_api_key": _("The permission of this page has ended. Try again; if that does not help, log in again."),
}  # fmt: skip
