"""An Anthropic conversation in the words of a chat completion: pure.

What a block must have is checked here, so that an error names the block as its writer
knows it; all that a chat has in common with it is checked where chats are.
"""

from __future__ import annotations

from typing import Any

from api.chat_completions import messages as chat
from api.chat_completions import tools as chat_tools
from api.chat_completions.wire import ChatRequest
from api.messages.wire import (
    Block,
    CountRequest,
    InputMessage,
    MessagesRequest,
    Thinking,
    Tool,
    ToolChoice,
)
from api.parameters import refuse
from api.structured_outputs import JsonSchemaFormat, ResponseFormat
from inference.errors import InvalidRequest

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
# Blocks that an answer may begin anew with, but that say nothing to a template.
_SILENT = frozenset({"redacted_thinking"})


def chat_request(body: MessagesRequest) -> ChatRequest:
    """The same request as ``/v1/chat/completions`` would have it; raises InvalidRequest."""
    check_supported(body)
    refuse(
        inference_geo=body.inference_geo,
        diagnostics=body.diagnostics,
        user_profile_id=body.user_profile_id,
    )
    thinking = body.thinking
    if thinking is not None and thinking.type == "enabled":
        _check_budget(thinking, body.max_tokens)
    return ChatRequest(
        **prompt_fields(body),
        max_tokens=body.max_tokens,
        stream=body.stream,
        stop=body.stop_sequences,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        user=body.metadata.user_id if body.metadata is not None else None,
        service_tier="default" if body.service_tier == "standard_only" else body.service_tier,
        response_format=_response_format(body),
    )


def check_supported(body: CountRequest) -> None:
    refuse(
        mcp_servers=body.mcp_servers,
        context_management=body.context_management,
        container=body.container,
        speed=None if body.speed == "standard" else body.speed,
    )


def prompt_fields(body: CountRequest) -> dict[str, Any]:
    """Those fields of a ``ChatRequest`` that make its prompt."""
    choice = body.tool_choice
    fields: dict[str, Any] = {
        "model": body.model,
        "messages": chat_messages(body),
        "tools": _tools(body.tools),
        "tool_choice": _choice(choice),
        "parallel_tool_calls": not (choice is not None and choice.disable_parallel_tool_use),
        "reasoning_effort": body.output_config.effort if body.output_config else None,
        # An answer goes on from where an assistant's last turn ends.
        "continue_final_message": body.messages[-1].role == "assistant",
    }
    if (thinking := body.thinking) is not None:
        if thinking.type != "adaptive":
            fields["chat_template_kwargs"] = {"enable_thinking": thinking.type == "enabled"}
        fields["include_reasoning"] = thinking.display != "omitted"
    return fields


def _check_budget(thinking: Thinking, max_tokens: int) -> None:
    if thinking.budget_tokens is None:
        raise _missing("thinking.budget_tokens")
    if thinking.budget_tokens >= max_tokens:
        raise InvalidRequest("It must be less than 'max_tokens'.", param="thinking.budget_tokens")


def _response_format(body: MessagesRequest) -> ResponseFormat | None:
    if body.output_config is None or body.output_config.format is None:
        return None
    schema = JsonSchemaFormat("output", body.output_config.format.schema, strict=True)
    return ResponseFormat("json_schema", schema)


# --- Tools ------------------------------------------------------------------------------------


def _tools(tools: list[Tool] | None) -> list[chat_tools.Tool] | None:
    return [_tool(f"tools[{at}]", tool) for at, tool in enumerate(tools)] if tools else None


def _tool(at: str, tool: Tool) -> chat_tools.Tool:
    if tool.type not in (None, "custom"):
        refuse(**{f"{at}.type": tool.type})
    if tool.input_schema is None:
        raise _missing(f"{at}.input_schema")
    function = chat_tools.FunctionTool(tool.name, tool.description, tool.input_schema, tool.strict)
    return chat_tools.Tool("function", function)


def _choice(choice: ToolChoice | None) -> str | dict[str, Any] | None:
    if choice is None:
        return None
    if choice.type != "tool":
        return _CHOICES[choice.type]
    if choice.name is None:
        raise _missing("tool_choice.name")
    return {"type": "function", "function": {"name": choice.name}}


# --- Messages ----------------------------------------------------------------------------------


def chat_messages(body: CountRequest) -> list[chat.Message]:
    made: list[chat.Message] = []
    if body.system:
        made.append(chat.Message("system", _text_content("system", body.system)))
    for index, message in enumerate(body.messages):
        at = f"messages[{index}]"
        if isinstance(message.content, str):
            made.append(chat.Message(message.role, message.content))
        elif message.role == "system":
            made.append(chat.Message("system", _text_content(f"{at}.content", message.content)))
        elif message.role == "assistant":
            made.append(_assistant(f"{at}.content", message.content))
        else:
            made += _user(f"{at}.content", message)
    return made


def _user(at: str, message: InputMessage) -> list[chat.Message]:
    """A chat has a message for each tool's result, and the user's text between them."""
    made: list[chat.Message] = []
    texts: list[str] = []

    def flush() -> None:
        if texts:
            made.append(chat.Message("user", _joined(texts)))
            texts.clear()

    for place, block in enumerate(message.content):
        assert isinstance(block, Block)
        name = f"{at}[{place}]"
        if block.type != "tool_result":
            texts.append(_text(name, block))
            continue
        flush()
        if block.tool_use_id is None:
            raise _missing(f"{name}.tool_use_id")
        made.append(chat.Message("tool", _result(name, block), tool_call_id=block.tool_use_id))
    flush()
    if not made:
        raise InvalidRequest("A message needs content.", param=at)
    return made


def _result(at: str, block: Block) -> str:
    content = block.content
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for place, part in enumerate(content):
        name = f"{at}.content[{place}]"
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise InvalidRequest("A content block is an object with a type.", param=name)
        text = part.get("text")
        texts.append(
            _text(name, Block(type=part["type"], text=text if isinstance(text, str) else None))
        )
    return "\n".join(texts)


def _assistant(at: str, blocks: list[Block]) -> chat.Message:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[chat.Call] = []
    for place, block in enumerate(blocks):
        name = f"{at}[{place}]"
        if block.type == "tool_use":
            calls.append(_call(name, block))
        elif block.type == "thinking":
            if block.thinking is None:
                raise _missing(f"{name}.thinking")
            thoughts.append(block.thinking)
        elif block.type not in _SILENT:
            texts.append(_text(name, block))
    if len(calls) > chat.MOST_CALLS:
        raise InvalidRequest(f"A turn has at most {chat.MOST_CALLS} calls.", param=at)
    if not texts and not calls:
        raise InvalidRequest("A message needs content.", param=at)
    return chat.Message(
        "assistant",
        _joined(texts) if texts else None,
        tool_calls=calls or None,
        reasoning="\n".join(thoughts) if thoughts else None,
    )


def _call(at: str, block: Block) -> chat.Call:
    if block.id is None or block.name is None:
        raise _missing(f"{at}.{'id' if block.id is None else 'name'}")
    return chat.Call(block.id, "function", chat.CalledFunction(block.name, block.input or {}))


def _text_content(at: str, content: str | list[Block]) -> str | list[chat.Part]:
    if isinstance(content, str):
        return content
    return _joined([_text(f"{at}[{place}]", block) for place, block in enumerate(content)])


def _joined(texts: list[str]) -> str | list[chat.Part]:
    """Several stay several, for templates that take parts."""
    return texts[0] if len(texts) == 1 else [chat.Part("text", text) for text in texts]


def _text(at: str, block: Block) -> str:
    if block.type != "text":
        error = InvalidRequest(
            f"Content of type '{block.type[:40]}' is not supported here: this model reads text.",
            param=at,
        )
        error.code = "unsupported_parameter"
        raise error
    if block.text is None:
        raise _missing(f"{at}.text")
    return block.text


def _missing(field: str) -> InvalidRequest:
    error = InvalidRequest(f"Missing required parameter: '{field}'.", param=field)
    error.code = "missing_required_parameter"
    return error
