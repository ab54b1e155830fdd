"""Texts and chats to token ids, and back, by the model's own tokenizer: as vLLM's server does."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from api.chat_completions.messages import Message, template_messages
from api.chat_completions.prompting import prompt_options
from api.chat_completions.tools import Tools, tools_of
from api.chat_completions.wire import MOST_MESSAGES, ChatRequest
from api.counting import MOST_COUNTED_TOKENS, Counting
from api.errors import decoded
from api.gateway import Gateway
from api.parameters import refuse
from api.resolve import find_model
from inference.errors import InvalidRequest
from inference.prompts import PromptRenderer
from tenants.principal import Principal

MOST_TOKENS = 1_000_000


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A prompt or messages; null is the same as absent."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    prompt: str | None = None
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MOST_MESSAGES)] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: Tools | None = None
    # Known, and refused by name.
    chat_template: Any = None
    media_io_kwargs: Any = None
    mm_processor_kwargs: Any = None


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: Annotated[str, Meta(min_length=1, max_length=200)]
    tokens: Annotated[list[Annotated[int, Meta(ge=0, le=2**63 - 1)]], Meta(max_length=MOST_TOKENS)]


_decode = msgspec.json.Decoder(TokenizeRequest).decode
_decode_ids = msgspec.json.Decoder(DetokenizeRequest).decode


def prepare_tokenize(gateway: Gateway, principal: Principal, raw: bytes) -> Counting:
    body = decoded(_decode, raw)
    refuse(
        chat_template=body.chat_template,
        media_io_kwargs=body.media_io_kwargs,
        mm_processor_kwargs=body.mm_processor_kwargs,
    )
    if (body.prompt is None) == (body.messages is None):
        raise InvalidRequest("Send either 'prompt' or 'messages'.", param="prompt")
    entry, usable = find_model(gateway, body.model, principal)
    served = usable[0]
    chat = None if body.messages is None else _Chat(body)

    async def work() -> dict[str, Any]:
        scope, renderer = principal.organization, served.renderer
        if chat is not None:
            ids = await chat.encode(renderer, scope)
        else:
            ids = await renderer.encode_text(
                body.prompt or "",
                scope=scope,
                limit_tokens=MOST_COUNTED_TOKENS,
                add_special_tokens=body.add_special_tokens is not False,
            )
        return {
            "count": len(ids),
            "max_model_len": served.max_context_tokens,
            "tokens": ids,
            "token_strs": await renderer.token_names(ids) if body.return_token_strs else None,
        }

    return Counting(entry.name, work)


class _Chat:
    """The messages as a chat completion would render them."""

    def __init__(self, body: TokenizeRequest):
        tools = tools_of(body.tools)
        request = ChatRequest(
            model=body.model,
            messages=body.messages or [],
            tools=body.tools,
            add_special_tokens=body.add_special_tokens,
            add_generation_prompt=body.add_generation_prompt,
            continue_final_message=body.continue_final_message,
            chat_template_kwargs=body.chat_template_kwargs,
        )
        self._messages = template_messages(request.messages)
        self._options = prompt_options(request, tools)

    async def encode(self, renderer: PromptRenderer, scope: int) -> list[int]:
        return await renderer.encode_chat(
            self._messages, scope=scope, limit_tokens=MOST_COUNTED_TOKENS, **self._options
        )


def prepare_detokenize(gateway: Gateway, principal: Principal, raw: bytes) -> Counting:
    body = decoded(_decode_ids, raw)
    entry, usable = find_model(gateway, body.model, principal)
    renderer = usable[0].renderer
    most = renderer.vocab_size
    for index, token_id in enumerate(body.tokens):
        if token_id >= most:
            raise InvalidRequest(
                f"{token_id} is no token id of this model (0 to {most - 1}).",
                param=f"tokens[{index}]",
            )

    async def work() -> dict[str, str]:
        return {"prompt": await renderer.decode_text(body.tokens)}

    return Counting(entry.name, work)
