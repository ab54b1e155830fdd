"""Inputs that are a text, token ids, or a list of either: completions and embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inference.errors import ContextLengthExceeded, InvalidRequest
from inference.registry import Served

# Of a text that is cut anyway: more than any body holds.
MOST_TOKENS = 2**31


@dataclass(frozen=True)
class Cut:
    """Inputs are shortened to so many tokens, in place of being refused."""

    tokens: int
    keeps_end: bool = False


def split_inputs(value: str | list[Any], param: str, most: int) -> list[str | list[int]]:
    """One element an input; an error names the element."""
    if isinstance(value, str):
        return [_text(value, param)]
    if not value:
        raise InvalidRequest(f"'{param}' must not be empty.", param=param)
    if all(_is_id(item) for item in value):
        return [value]
    if len(value) > most:
        raise InvalidRequest(f"'{param}' has at most {most} elements.", param=param)
    return [_element(item, f"{param}[{index}]") for index, item in enumerate(value)]


def _element(item: Any, param: str) -> str | list[int]:
    if isinstance(item, str):
        return _text(item, param)
    if isinstance(item, list) and item and all(_is_id(part) for part in item):
        return item
    raise InvalidRequest(
        f"'{param}' must be a text that is not empty or a list of token ids.",
        param=param,
    )


def _text(text: str, param: str) -> str:
    if not text:
        raise InvalidRequest(f"'{param}' must not be empty.", param=param)
    return text


def _is_id(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


async def encode_inputs(
    inputs: list[str | list[int]],
    served: Served,
    scope: int,
    param: str,
    add_special_tokens: bool = True,
    cut: Cut | None = None,
) -> list[list[int]]:
    """Token ids of each input, checked against vocabulary and context; with ``cut`` texts
    that are longer than it says are shortened, and ids too."""
    renderer, most = served.renderer, served.max_context_tokens
    encoded = []
    for index, item in enumerate(inputs):
        name = param if len(inputs) == 1 else f"{param}[{index}]"
        if isinstance(item, str):
            ids = await renderer.encode_text(
                item,
                scope=scope,
                limit_tokens=most if cut is None else MOST_TOKENS,
                add_special_tokens=add_special_tokens,
                param=name,
            )
        else:
            ids = item
            for token_id in ids:
                if not 0 <= token_id < renderer.vocab_size:
                    raise InvalidRequest(
                        f"{token_id} is no token id of this model "
                        f"(0 to {renderer.vocab_size - 1}).",
                        param=name,
                    )
        if cut is not None and len(ids) > cut.tokens:
            if isinstance(item, str):
                ids = renderer.cut(ids, cut.tokens, keeps_end=cut.keeps_end)
            else:
                ids = ids[-cut.tokens :] if cut.keeps_end else ids[: cut.tokens]
        if len(ids) > most:
            raise ContextLengthExceeded(
                f"This model's maximum context length is {most} tokens. However, '{name}' has "
                f"{len(ids)} tokens. Please reduce its length.",
                param=name,
            )
        encoded.append(ids)
    return encoded
