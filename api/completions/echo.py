"""Prompts before their completions (``echo``), and the best of several (``best_of``)."""

from __future__ import annotations

from api.choices import Choice
from api.completions.wire import MOST_SCORED_PROMPT_TOKENS, CompletionRequest
from inference.errors import InvalidRequest
from inference.prompts import PromptRenderer
from inference.wire import Logprob


class Echo:
    """The prompts of one request as its answers repeat them."""

    def __init__(
        self,
        inputs: list[str | list[int]],
        prompts: list[list[int]],
        renderer: PromptRenderer,
        *,
        is_all: bool,
    ):
        self._renderer = renderer
        self._inputs, self._prompts = inputs, prompts
        self.is_all = is_all  # the client wants no completion after it

    def text(self, prompt: int) -> str:
        given = self._inputs[prompt]
        return given if isinstance(given, str) else self._renderer.decode(given, False)

    def logprobs(self, prompt: int, scored: list[Logprob] | None) -> list[Logprob | str]:
        """Of the whole prompt; its first token was chosen by nobody."""
        ids = self._prompts[prompt]
        first: list[Logprob | str] = [self._renderer.token_text(ids[0])] if ids else []
        return first + list(scored or ())


def check_echo(body: CompletionRequest, prompts: list[list[int]]) -> None:
    """Raises InvalidRequest naming the field."""
    if body.max_tokens == 0 and not body.echo:
        raise InvalidRequest("'max_tokens' can be 0 with 'echo' only.", param="max_tokens")
    if not body.echo or body.logprobs is None:
        return
    longest = max(map(len, prompts))
    if longest > MOST_SCORED_PROMPT_TOKENS:
        raise InvalidRequest(
            f"'echo' gives logprobs for prompts of at most {MOST_SCORED_PROMPT_TOKENS} tokens; "
            f"this one has {longest}.",
            param="echo",
        )


def candidates_of(body: CompletionRequest) -> int:
    """How many completions of each prompt are made; raises InvalidRequest naming the field."""
    n, best_of = body.n or 1, body.best_of
    if best_of is None or best_of == n:
        return n
    if best_of < n:
        raise InvalidRequest("'best_of' must not be below 'n'.", param="best_of")
    if body.stream:
        raise InvalidRequest("The best of several cannot be streamed.", param="best_of")
    return best_of


def best(choices: list[Choice], made: int, wanted: int) -> list[Choice]:
    """Of the ``made`` of each prompt the ``wanted`` likeliest by token, as OpenAI ranks them."""
    if made == wanted:
        return choices
    chosen = []
    for first in range(0, len(choices), made):
        ranked = sorted(choices[first : first + made], key=_mean_logprob, reverse=True)
        chosen += ranked[:wanted]
    return chosen


def _mean_logprob(choice: Choice) -> float:
    found = [token.logprob for token in choice.logprobs]
    return sum(found) / len(found) if found else 0.0
