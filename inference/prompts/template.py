"""Chat templates: jinja2 set up as transformers does, compiled once.

Source: ``transformers.utils.chat_template_utils`` 5.19 for the environment,
``vllm.renderers`` 0.32 for the shape that messages have when a template sees them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inference.errors import InvalidRequest, StoreError

Message = dict[str, Any]

# What rendering raises when the messages do not fit the template.
MISFIT = (
    jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError,
    RecursionError,
)  # fmt: skip
# Names that the renderer itself gives a template.
RESERVED = frozenset(
    {"messages", "tools", "add_generation_prompt", "chat_template", "tokenize",
     "continue_final_message"}
)  # fmt: skip
# transformers' own mark of where the last message ends.
END_OF_MESSAGE = "CONTINUE_FINAL_MESSAGE_TAG "
PROBE = "sluice-probe"


class _Generation(Extension):
    """``{% generation %}`` marks what the assistant wrote, for training: its body is rendered."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller: Any) -> Any:
        return caller()


class _Refused(jinja2.TemplateError):
    """The template's own ``raise_exception``, whose words are meant for the caller."""


def _raise_exception(message: str) -> NoReturn:
    raise _Refused(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Unlike jinja2's own, without HTML escapes: models were not trained on them."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


class ChatTemplate:
    """One compiled template; rendering is pure but for ``strftime_now``."""

    def __init__(self, source: str, special_tokens: dict[str, str]):
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise StoreError(f"The chat template does not compile: {error}") from error
        # Rendered by hand from one ready dict: Template.render copies the globals out
        # of a ChainMap on every call, 6 of its 16 µs.
        self._globals = {**self._template.globals, **special_tokens}
        self._knows_developer = '"developer"' in source or "'developer'" in source
        self._takes_parts = self._detect_parts()

    def render(
        self,
        messages: Sequence[Message],
        tools: list[dict[str, Any]] | None,
        add_generation_prompt: bool,
        variables: dict[str, Any],
    ) -> str:
        """Raises ``InvalidRequest`` naming ``messages`` when the template refuses them."""
        if RESERVED & variables.keys():
            names = ", ".join(sorted(RESERVED & variables.keys()))
            raise InvalidRequest(f"{names} cannot be set here.", param="chat_template_kwargs")
        shaped = [self._shape(message) for message in messages]
        if not self._knows_developer:
            shaped = _developer_to_system(shaped)
        try:
            return self._render(shaped, tools, add_generation_prompt, variables)
        except _Refused as error:
            raise InvalidRequest(str(error)[:500], param="messages") from error
        except MISFIT as error:
            raise InvalidRequest(
                "The model's chat template cannot render these messages.", param="messages"
            ) from error

    def render_open(
        self,
        messages: Sequence[Message],
        tools: list[dict[str, Any]] | None,
        variables: dict[str, Any],
    ) -> str:
        """Without what the template writes after the last message, for a model to go on with
        that message. As ``apply_chat_template(continue_final_message=True)``."""
        last = messages[-1]
        content = last.get("content")
        if isinstance(content, list) and content:
            end = {**content[-1], "text": content[-1]["text"] + END_OF_MESSAGE}
            marked: Any = [*content[:-1], end]
        elif isinstance(content, str):
            marked = content + END_OF_MESSAGE
        else:
            raise InvalidRequest("There is no last message to continue.", param="messages")
        opened = [*messages[:-1], {**last, "content": marked}]
        text = self.render(opened, tools, False, variables)
        place = text.rfind(END_OF_MESSAGE.strip())
        if place < 0:
            raise InvalidRequest(
                "The model's chat template leaves out the last message.", param="messages"
            )
        # A template that strips contents took the mark's own space, and means it so.
        keeps_spaces = text.startswith(END_OF_MESSAGE, place)
        return text[:place] if keeps_spaces else text[:place].rstrip()

    def _render(
        self,
        messages: list[Message],
        tools: list[dict[str, Any]] | None,
        add_generation_prompt: bool,
        variables: dict[str, Any],
    ) -> str:
        names = {
            **self._globals,
            "messages": messages,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **variables,
        }
        context = self._template.new_context(names, shared=True)
        return "".join(self._template.root_render_func(context))

    def _detect_parts(self) -> bool:
        """Whether the template wants content as a list of parts: asked, not guessed.

        A template for plain strings either fails on a list or prints it as Python does.
        """
        parts = [{"type": "text", "text": PROBE}]
        try:
            text = self._render([{"role": "user", "content": parts}], None, True, {})
        except MISFIT:
            return False
        return PROBE in text and str(parts) not in text and json.dumps(parts) not in text

    def _shape(self, message: Message) -> Message:
        """Content as the template takes it; tool-call arguments as objects."""
        content = message.get("content")
        if not isinstance(content, str) or self._takes_parts:
            message = {**message, "content": self._content(message.get("role"), content)}
        calls = message.get("tool_calls")
        if calls:
            return {**message, "tool_calls": [_parsed(call) for call in calls]}
        if calls is not None:
            return {name: value for name, value in message.items() if name != "tool_calls"}
        return message

    def _content(self, role: Any, content: Any) -> Any:
        if content is None:
            content = []
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        # Tool results stay strings: few templates take parts there.
        if self._takes_parts and role != "tool":
            return content
        return _flat(content)


def _text_of(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type") in {"text", "refusal"}:
        text = part.get(part["type"])
        if isinstance(text, str):
            return text
    raise InvalidRequest("This model takes text content only.", param="messages")


def _parsed(call: dict[str, Any]) -> dict[str, Any]:
    """A tool call with its arguments as an object; clients send them as JSON text.

    What is no object becomes an empty one, as in vLLM: the model wrote it in an
    earlier turn, and refusing it would end the conversation.
    """
    function = call.get("function") or {}
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            arguments = {}
    if not isinstance(arguments, dict):
        arguments = {}
    return {**call, "function": {**function, "arguments": arguments}}


def _developer_to_system(messages: list[Message]) -> list[Message]:
    """For templates that do not know OpenAI's newer role; all others stay as they are.

    As in vLLM, system messages that then stand further down are joined to the first.
    """
    if all(message.get("role") != "developer" for message in messages):
        return messages
    renamed = [
        {**message, "role": "system"} if message.get("role") == "developer" else message
        for message in messages
    ]
    if all(message.get("role") != "system" for message in renamed[1:]):
        return renamed
    texts = [_flat(message["content"]) for message in renamed if message.get("role") == "system"]
    joined = {"role": "system", "content": "\n\n".join(text for text in texts if text)}
    return [joined, *(message for message in renamed if message.get("role") != "system")]


def _flat(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(_text_of(part) for part in content)
