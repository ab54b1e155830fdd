"""A response's events when its writer is gone: those of one that has ended, made anew, and what
ends those that another attempt left open. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from api.responses.writer import Events, ResponseWriter, to_json

# What a response does not have before it has ended.
_UNKNOWN_YET: dict[str, Any] = {
    "status": "in_progress", "usage": None, "error": None, "completed_at": None,
    "incomplete_details": None,
}  # fmt: skip


def ending(response: dict[str, Any], number: int) -> bytes:
    """The last event of a stream, whoever finds that it has ended."""
    kind = f"response.{response['status']}"
    return to_json({"type": kind, "sequence_number": number, "response": response})


def replayed(response: dict[str, Any]) -> Events:
    """The events of a response that has ended, as if each of its texts had come in one piece."""
    writer = ResponseWriter({**response, **_UNKNOWN_YET, "output": []}, None)
    events = writer.begin()
    for item in response["output"]:
        events += writer.again(item)
    return [*events, ending(response, len(events))]


def abandoned(events: Events, number: int) -> tuple[Events, int]:
    """What ends the items that an earlier attempt left open, from that number on; how many
    items it had. A client keeps what it heard of them, and the response has none of them."""
    added: dict[int, dict[str, Any]] = {}
    texts: dict[int, list[str]] = {}
    for event in map(msgspec.json.decode, events):
        place = event.get("output_index")
        if event["type"] == "response.output_item.added":
            added[place], texts[place] = event["item"], []
        elif event["type"] == "response.output_item.done":
            added[place]["status"] = "completed"
        elif event["type"].endswith(".delta"):
            texts[place].append(event["delta"])
    closing: Events = []
    for place, item in added.items():
        if item["status"] == "completed":
            continue
        _fill(item, "".join(texts[place]))
        fields = {"sequence_number": number + len(closing), "output_index": place, "item": item}
        closing.append(to_json({"type": "response.output_item.done", **fields}))
    return closing, max(added, default=-1) + 1


def _fill(item: dict[str, Any], text: str) -> None:
    item["status"] = "incomplete"
    if item["type"] == "function_call":
        item["arguments"] = text
    elif item["type"] == "reasoning":
        item["content"] = [{"type": "reasoning_text", "text": text}]
    else:
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
        item["content"] = [part]
