"""A response as it is made: its items, and the events that tell of them. Pure.

Every event is one JSON object that begins with its ``type``, which a frame's ``event`` repeats
(``sse.event_frame``). Source: OpenAI's API reference, and its Python client's types.
"""

from __future__ import annotations

from typing import Any

import msgspec

from api.chat_completions.wire import logprobs_of
from api.responses.items import new_id
from inference.dispatch import Output
from inference.wire import Logprob, ToolCallPart

to_json = msgspec.json.encode
Events = list[bytes]


class ResponseWriter:
    """``response`` is the object as it is before there is any output; ``top_logprobs`` is None
    where none are shown. One that goes on where another was (``go_on``) has ``first_place``
    items before its own, which are not in the response."""

    def __init__(self, response: dict[str, Any], top_logprobs: int | None):
        self.response = response
        self.items: list[dict[str, Any]] = response["output"]
        self.reasoning_tokens = 0
        self._top_logprobs = top_logprobs
        self._number = 0
        self._first_place = 0
        self._is_created = False
        self._kind = ""  # of the item that is open: message, reasoning, function_call or none
        self._call = -1  # the open item's, of a function_call
        self._texts: list[str] = []  # of the open item
        self._logprobs: list[dict[str, Any]] = []

    def go_on(self, number: int, first_place: int) -> None:
        """After events that were made before: the next one's number, and the place of the next
        item. The response was created then."""
        self._number, self._first_place, self._is_created = number, first_place, True

    def begin(self) -> Events:
        kinds = ("response.in_progress",) if self._is_created else _BEGINNING
        return [self._event(kind, response=self.response) for kind in kinds]

    def queued(self) -> Events:
        """Instead of ``begin``, of a response that waits to be made."""
        return [
            self._event("response.created", response=self.response),
            self._event("response.queued", response=self.response),
        ]

    def output(self, output: Output) -> Events:
        """Of a part of the answer."""
        ready: Events = []
        message = output.message
        if message is not None and message.reasoning:
            self._switch(ready, "reasoning")
            self._delta(ready, message.reasoning)
        if output.text:
            self._switch(ready, "message")
            self._delta(ready, output.text, self._told(output.logprobs))
        if message is not None:
            self.reasoning_tokens += message.reasoning_tokens
            for part in message.tool_calls:
                self._call_part(ready, part)
        return ready

    def end(self, status: str, **fields: Any) -> Events:
        """Close what is open; ``fields`` are what the response is known by from here on."""
        ready: Events = []
        if not self.items and status == "completed":
            self._switch(ready, "message")  # the model said nothing, and that is an answer
        self._close(ready, status if status in ("completed", "incomplete") else "incomplete")
        self.response.update(fields, status=status)
        return ready

    def last(self) -> bytes:
        """When the response is whole, and stored if it is."""
        return self._event(f"response.{self.response['status']}", response=self.response)

    def again(self, item: dict[str, Any]) -> Events:
        """An item that was made before, its text in one piece."""
        ready: Events = []
        if item["type"] == "function_call":
            fields = {name: item[name] for name in ("id", "name", "call_id")}
            self._open(ready, "function_call", **fields, arguments="")
            self._delta(ready, item["arguments"])
        else:
            self._switch(ready, item["type"], item["id"])
            for part in item["content"]:
                if part["text"]:
                    self._delta(ready, part["text"], part.get("logprobs"))
        self._close(ready, item["status"])
        return ready

    # --- Items ----------------------------------------------------------------------------

    def _call_part(self, ready: Events, part: ToolCallPart) -> None:
        if self._kind != "function_call" or self._call != part.index:
            self._close(ready)
            self._call = part.index
            self._open(ready, "function_call", name=part.name, call_id=part.id, arguments="")
        if part.arguments:
            self._delta(ready, part.arguments)

    def _switch(self, ready: Events, kind: str, item_id: str = "") -> None:
        if self._kind == kind:
            return
        self._close(ready)
        fields: dict[str, Any] = {"role": "assistant"} if kind == "message" else {"summary": []}
        self._open(ready, kind, **fields, id=item_id, content=[])
        self._part_event(ready, "added")

    def _open(self, ready: Events, kind: str, **fields: Any) -> None:
        self._kind, self._texts, self._logprobs = kind, [], []
        item_id = fields.pop("id", "") or new_id(_PREFIXES[kind])
        item = {"id": item_id, "type": kind, "status": "in_progress", **fields}
        self.items.append(item)
        ready.append(self._event("response.output_item.added", output_index=self._place, item=item))

    def _delta(
        self, ready: Events, text: str, logprobs: list[dict[str, Any]] | None = None
    ) -> None:
        self._texts.append(text)
        fields: dict[str, Any] = {"delta": text}
        if self._kind == "message":
            self._logprobs += logprobs or []
            fields["logprobs"] = logprobs or []
        ready.append(self._item_event(f"{_TEXTS[self._kind]}.delta", **fields))

    def _close(self, ready: Events, status: str = "completed") -> None:
        if not self._kind:
            return
        item, text = self.items[-1], "".join(self._texts)
        item["status"] = status
        if self._kind == "function_call":
            item["arguments"] = text
            ready.append(
                self._item_event(f"{_TEXTS[self._kind]}.done", arguments=text, name=item["name"])
            )
        else:
            fields: dict[str, Any] = {"text": text}
            if self._kind == "message":
                fields["logprobs"] = self._logprobs
            ready.append(self._item_event(f"{_TEXTS[self._kind]}.done", **fields))
            item["content"] = [self._part(text)]
            self._part_event(ready, "done", text)
        ready.append(self._event("response.output_item.done", output_index=self._place, item=item))
        self._kind = ""

    def _part(self, text: str) -> dict[str, Any]:
        if self._kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return {
            "type": "output_text",
            "annotations": [],
            "logprobs": self._logprobs,
            "text": text,
        }

    def _part_event(self, ready: Events, kind: str, text: str = "") -> None:
        ready.append(self._item_event(f"response.content_part.{kind}", part=self._part(text)))

    def _told(self, logprobs: list[Logprob] | None) -> list[dict[str, Any]] | None:
        if self._top_logprobs is None or logprobs is None:
            return None
        told = logprobs_of(logprobs, self._top_logprobs)
        assert told is not None
        content: list[dict[str, Any]] = told["content"]
        return content

    # --- Events ---------------------------------------------------------------------------

    @property
    def _place(self) -> int:
        """Of the newest item among all of the stream."""
        return self._first_place + len(self.items) - 1

    def _item_event(self, kind: str, **fields: Any) -> bytes:
        """Of the open item."""
        place: dict[str, Any] = {
            "item_id": self.items[-1]["id"],
            "output_index": self._place,
        }
        if self._kind != "function_call":
            place["content_index"] = 0
        return self._event(kind, **place, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return to_json({"type": kind, "sequence_number": number, **fields})


_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc"}
_TEXTS = {
    "message": "response.output_text",
    "reasoning": "response.reasoning_text",
    "function_call": "response.function_call_arguments",
}
_BEGINNING = ("response.created", "response.in_progress")
