"""Tools of a chat: what may be called, and how the answer is taken apart for it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from api.parameters import refuse
from api.structured_outputs import NAME, check_schema
from inference.errors import InvalidRequest
from inference.registry import Served
from inference.wire import Parsing

MOST_TOOLS = 128
MOST_TOOLS_BYTES = 256 * 1024
_USAGE = 'As in {"type": "function", "function": {"name": "my_function"}}.'


class FunctionTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=NAME)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    function: FunctionTool | None = None
    custom: dict[str, Any] | None = None


Tools = Annotated[list[Tool], Meta(min_length=1, max_length=MOST_TOOLS)]


def tools_of(tools: list[Tool] | None) -> list[dict[str, Any]]:
    """As vLLM gives them to templates and parsers; raises InvalidRequest naming the element."""
    if tools is None:
        return []
    found = [_tool(f"tools[{index}]", tool) for index, tool in enumerate(tools)]
    if len(msgspec.json.encode(found)) > MOST_TOOLS_BYTES:
        raise InvalidRequest(f"Tools have at most {MOST_TOOLS_BYTES} bytes.", param="tools")
    return found


def _tool(at: str, tool: Tool) -> dict[str, Any]:
    if tool.type != "function":
        refuse(**{f"{at}.type": tool.type})
    function = tool.function
    if function is None:
        error = InvalidRequest(
            f"Missing required parameter: '{at}.function'.", param=f"{at}.function"
        )
        error.code = "missing_required_parameter"
        raise error
    if function.parameters is not None:
        check_schema(function.parameters, f"{at}.function.parameters")
    made: dict[str, Any] = {
        "name": function.name,
        "description": function.description,
        "parameters": function.parameters,
    }
    if function.strict is not None:
        made["strict"] = function.strict
    return {"type": "function", "function": made}


def choice_of(choice: Any, tools: list[dict[str, Any]]) -> tuple[str, str]:
    """``(none | auto | required | named, the function's name)``."""
    if choice is None:
        return ("auto" if tools else "none"), ""
    if choice == "none":
        return "none", ""
    if not tools:
        raise InvalidRequest("'tool_choice' needs 'tools'.", param="tool_choice")
    if choice in ("auto", "required"):
        return choice, ""
    if not isinstance(choice, dict):
        raise InvalidRequest(
            "'tool_choice' is 'none', 'auto', 'required' or a function. " + _USAGE,
            param="tool_choice",
        )
    return "named", _named(choice, tools)


def _named(choice: dict[str, Any], tools: list[dict[str, Any]]) -> str:
    kind, function = choice.get("type", "function"), choice.get("function")
    if kind != "function":
        refuse(**{"tool_choice.type": str(kind)[:40]})
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest("It names no function. " + _USAGE, param="tool_choice.function")
    name: str = function["name"]
    if all(tool["function"]["name"] != name for tool in tools):
        raise InvalidRequest(
            f"'{name[:64]}' is none of the tools.", param="tool_choice.function.name"
        )
    return name


def parsing_of(
    served: Served,
    tools: list[dict[str, Any]],
    choice: tuple[str, str],
    *,
    parallel_tool_calls: bool,
    include_reasoning: bool,
    template_kwargs: dict[str, Any],
    is_streamed: bool,
    past_tool_calls: int,
) -> Parsing | None:
    """How the worker takes the answer apart; None: it is all content.

    Raises InvalidRequest where a model without a tool parser is to call something: as at
    vLLM's server, such a model has no way to.
    """
    calls = choice[0] != "none"
    if calls and not served.tool_parser:
        error = InvalidRequest(
            "This model calls no tools; 'tool_choice' can only be 'none'.", param="tools"
        )
        error.code = "unsupported_parameter"
        raise error
    if not served.reasoning_parser and not (tools and served.tool_parser):
        return None
    return Parsing(
        tools=tools,
        tool_choice=choice[0],
        named=choice[1],
        parallel_tool_calls=parallel_tool_calls,
        include_reasoning=include_reasoning,
        template_kwargs=template_kwargs,
        is_streamed=is_streamed,
        past_tool_calls=past_tool_calls,
    )


def call_json(index: int, part: Any) -> dict[str, Any]:
    """One part of a call in a chunk's ``delta.tool_calls``."""
    function: dict[str, Any] = {"arguments": part.arguments}
    if not part.name:
        return {"index": index, "function": function}
    head = {"index": index, "id": part.id, "type": "function"}
    return {**head, "function": {"name": part.name, **function}}
