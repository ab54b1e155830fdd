"""Screening of all that an answer says: its content, its reasoning, its tool calls.

Each is a text of its own, so that nothing found in one was ever sent of it; content is the
common case and costs no more than ``OutputScreen``.
"""

from __future__ import annotations

from inference.dispatch.sequence import Output
from inference.screening import OutputScreen
from inference.wire import MessagePart, ToolCallPart


class AnswerScreen:
    """One choice of an answer under one organization's policy."""

    def __init__(self, policy: str):
        self._policy = policy
        self._content = OutputScreen(policy)
        self._reasoning: OutputScreen | None = None
        self._calls: dict[int, OutputScreen] = {}

    @property
    def is_looking(self) -> bool:
        return self._content.is_looking

    @property
    def holds_back(self) -> bool:
        """Whether text is not sent as it comes, and may end the answer."""
        return self._content.holds_back

    def note(self, text: str) -> None:
        """Content that was sent as it came: ``findings`` looks at it, nothing is held back."""
        self._content.feed(text, is_last=False)

    def feed(self, output: Output, *, is_last: bool) -> list[str]:
        """Leave in ``output`` what may be sent now; the categories that block."""
        output.text, blocked = self._content.feed(output.text, is_last=is_last)
        if output.message is not None or (is_last and (self._reasoning or self._calls)):
            message = output.message or MessagePart()
            output.message = self._feed_message(message, is_last, blocked)
        return blocked

    def findings(self) -> list[str]:
        """Categories in the whole answer."""
        screens = [self._content, *self._calls.values()]
        if self._reasoning is not None:
            screens.append(self._reasoning)
        return list(dict.fromkeys(found for screen in screens for found in screen.findings()))

    def _feed_message(self, message: MessagePart, is_last: bool, blocked: list[str]) -> MessagePart:
        reasoning = ""
        if message.reasoning and self._reasoning is None:
            self._reasoning = OutputScreen(self._policy)
        if self._reasoning is not None:
            reasoning, found = self._reasoning.feed(message.reasoning, is_last=is_last)
            blocked += found
        calls = [self._feed_call(part, blocked) for part in message.tool_calls]
        if is_last:
            calls += self._rest_of_calls(blocked)
        return MessagePart(reasoning, calls, message.reasoning_tokens)

    def _feed_call(self, part: ToolCallPart, blocked: list[str]) -> ToolCallPart:
        screen = self._calls.setdefault(part.index, OutputScreen(self._policy))
        arguments, found = screen.feed(part.arguments, is_last=False)
        blocked += found
        return ToolCallPart(part.index, part.id, part.name, arguments)

    def _rest_of_calls(self, blocked: list[str]) -> list[ToolCallPart]:
        parts = []
        for index, screen in self._calls.items():
            arguments, found = screen.feed("", is_last=True)
            blocked += found
            if arguments:
                parts.append(ToolCallPart(index, arguments=arguments))
        return parts
