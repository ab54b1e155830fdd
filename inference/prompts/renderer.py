"""One model version's prompts: messages to text, text to ids, ids to text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from inference.errors import ContextLengthExceeded, InvalidRequest
from inference.prompts.cache import TokenCache
from inference.prompts.folder import PromptFiles, read_prompt_files
from inference.prompts.template import ChatTemplate, Message
from inference.prompts.tokens import Tokens

# Tokenizing took 0.4 to 0.5 µs a character on the reference machine, a hop to a
# thread and back about 100 µs: above this many characters that are not cached the
# event loop would stand still for longer than a millisecond, so a thread does it.
THREAD_CHARS = 2_000
# Two, so that a few huge prompts cannot take every core from the event loop.
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="tokenize")

T = TypeVar("T")


async def _off_loop(size: int, work: Callable[[], T]) -> T:
    """In a thread where it would take the event loop's time."""
    if size <= THREAD_CHARS:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_threads, work)


class PromptRenderer:
    """Immutable but for its cache. ``scope`` is the organization's primary key."""

    def __init__(self, files: PromptFiles, cache: TokenCache | None = None):
        self.special_tokens = files.special_tokens
        self.eos_token_ids = files.eos_token_ids
        self.max_context_tokens = files.max_context_tokens
        self.sampling_defaults = files.sampling_defaults
        self._tokens = Tokens(files, cache)
        self._templates = {
            name: ChatTemplate(source, files.special_tokens)
            for name, source in files.templates.items()
        }

    @classmethod
    def load(cls, folder: Path) -> PromptRenderer:
        """Read a folder of the model store; raises ``StoreError`` or ``OSError``."""
        return cls(read_prompt_files(folder))

    @property
    def vocab_size(self) -> int:
        return self._tokens.vocab_size

    @property
    def has_chat_template(self) -> bool:
        return bool(self._templates)

    def render_chat(
        self,
        messages: Sequence[Message],
        tools: list[dict[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: dict[str, Any] | None = None,
    ) -> str:
        """The prompt's text; ``variables`` are the client's ``chat_template_kwargs``.

        With ``continue_final_message`` it ends where the last message's content does.
        Raises ``InvalidRequest`` when the template refuses the messages.
        """
        template = self._templates.get("default")
        if tools:
            template = self._templates.get("tool_use", template)
        if template is None:
            raise InvalidRequest("This model has no chat template.", param="model")
        if continue_final_message:
            return template.render_open(messages, tools, variables or {})
        return template.render(messages, tools, add_generation_prompt, variables or {})

    def tokenize(self, text: str, add_special_tokens: bool, *, scope: int) -> list[int]:
        """Exactly what transformers' tokenizer of this folder gives."""
        return self._tokens.encode(text, add_special_tokens, scope)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return self._tokens.decode(ids, skip_special_tokens)

    def token_text(self, token_id: int) -> str:
        """One token as text; part of a character shows as U+FFFD."""
        return self._tokens.decode([token_id], False)

    def cut(self, ids: list[int], most: int, *, keeps_end: bool = False) -> list[int]:
        """At most ``most`` tokens of an encoded text: its special tokens, and of the rest the
        beginning, or the end. As transformers truncates."""
        if len(ids) <= most:
            return ids
        before, after = self._tokens.special_before, self._tokens.special_after
        room = most - before - after
        if room <= 0:
            return ids[:most]
        end = len(ids) - after
        kept = ids[end - room : end] if keeps_end else ids[before : before + room]
        return [*ids[:before], *kept, *ids[end:]]

    async def encode_pairs(
        self, pairs: Sequence[tuple[str, str]], most: tuple[int | None, int | None]
    ) -> list[tuple[list[int], int]]:
        """Ids of each pair and where its second text begins; of longer texts the first ``most``
        tokens. The caller has seen to it that first texts, which repeat, are not long."""
        size = sum(len(first) + len(second) for first, second in pairs)
        return await _off_loop(size, partial(self._encode_pairs, pairs, most))

    def _encode_pairs(
        self, pairs: Sequence[tuple[str, str]], most: tuple[int | None, int | None]
    ) -> list[tuple[list[int], int]]:
        def cut(text: str, tokens: int | None) -> str:
            return self._tokens.head(text, tokens) if tokens else text

        return [
            self._tokens.encode_pair(cut(first, most[0]), cut(second, most[1]))
            for first, second in pairs
        ]

    async def decode_text(self, ids: Sequence[int]) -> str:
        """All of the text, special tokens too."""
        return await _off_loop(len(ids), partial(self._tokens.decode, ids, False))

    async def token_names(self, ids: Sequence[int]) -> list[str | None]:
        """As the vocabulary has them, not as text: ``Ġcat``."""
        return await _off_loop(len(ids), partial(self._tokens.names, ids))

    def check_length(self, text: str, limit_tokens: int, *, param: str) -> None:
        """Refuse a text that cannot fit, before anything is spent on tokenizing it."""
        if self._tokens.is_certainly_longer(text, limit_tokens):
            raise ContextLengthExceeded(
                f"This model's maximum context length is {limit_tokens} tokens, "
                "and your input is longer.",
                param=param,
            )

    async def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        scope: int,
        limit_tokens: int,
        tools: list[dict[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        add_special_tokens: bool = False,
        variables: dict[str, Any] | None = None,
    ) -> list[int]:
        """Render and tokenize a chat, as vLLM does: the template writes the special tokens.

        Refuses only what is certainly longer than ``limit_tokens``; the caller
        compares the exact count.
        """
        text = self.render_chat(
            messages, tools, add_generation_prompt, continue_final_message, variables
        )
        return await self._encode(text, add_special_tokens, scope, limit_tokens, "messages")

    async def encode_text(
        self,
        text: str,
        *,
        scope: int,
        limit_tokens: int,
        add_special_tokens: bool = True,
        param: str = "prompt",
    ) -> list[int]:
        """Tokenize a completion's prompt or an embedding's input; refuses like ``encode_chat``."""
        return await self._encode(text, add_special_tokens, scope, limit_tokens, param)

    async def _encode(
        self, text: str, add_special_tokens: bool, scope: int, limit_tokens: int, param: str
    ) -> list[int]:
        try:
            if self._is_quick(text, add_special_tokens, scope):
                return self.tokenize(text, add_special_tokens, scope=scope)
            return await asyncio.get_running_loop().run_in_executor(
                _threads, self._encode_checked, text, add_special_tokens, scope, limit_tokens, param
            )
        except InvalidRequest as error:
            error.param = error.param or param
            raise

    def _is_quick(self, text: str, add_special_tokens: bool, scope: int) -> bool:
        if len(text) <= THREAD_CHARS:
            return True
        uncached = self._tokens.count_uncached_chars(text, add_special_tokens, scope)
        return uncached <= THREAD_CHARS

    def _encode_checked(
        self, text: str, add_special_tokens: bool, scope: int, limit_tokens: int, param: str
    ) -> list[int]:
        self.check_length(text, limit_tokens, param=param)
        return self.tokenize(text, add_special_tokens, scope=scope)
