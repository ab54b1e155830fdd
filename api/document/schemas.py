"""JSON schemas of wire types, with the bounds that only handlers know."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from api.document.bounds import AS_IN_A_CHAT, BOUNDS, ITEMS, Fragment
from api.document.names import REF, readable, renamed
from api.document.refused import REFUSED, reason_of
from api.responses.wire import MOST_ITEMS, PromptFields

# What a field may hold that is refused by name: as good as nothing.
NOTHING: list[Any] = [None, False, [], {}]


class Schemas:
    """The components of these types and of what they hold; ``of`` gives one by reference."""

    def __init__(self, kinds: Iterable[Any]):
        self._kinds = list(dict.fromkeys([*kinds, *BOUNDS, *REFUSED, *ITEMS]))
        shapes, components = msgspec.json.schema_components(self._kinds, ref_template=REF)
        self.components: dict[str, Fragment] = {
            readable(name): renamed(shape) for name, shape in components.items()
        }
        self._shapes = dict(zip(self._kinds, map(renamed, shapes), strict=True))
        for kind in self._kinds:
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                self._bound(kind)
        for (kind, field), chats in AS_IN_A_CHAT.items():
            self._properties(kind)[field] = self.components["ChatRequest"]["properties"][chats]
        self._say_what_input_holds()

    def of(self, kind: Any) -> Fragment:
        """One of them where ``kind`` is several."""
        if isinstance(kind, tuple):
            return {"anyOf": [self.of(each) for each in kind]}
        return self._shapes[kind]

    def component_of(self, kind: Any) -> Fragment:
        return self.components[self._shapes[kind]["$ref"].rpartition("/")[2]]

    def _properties(self, kind: Any) -> dict[str, Fragment]:
        properties: dict[str, Fragment] = self.component_of(kind)["properties"]
        return properties

    def _bound(self, kind: type) -> None:
        properties = self._properties(kind) if "$ref" in self._shapes[kind] else {}
        for name in properties:
            reason = reason_of(kind, name)
            if reason is not None:
                told = f"Refused by name: {reason}."
                properties[name] = {"enum": NOTHING, "default": None, "description": told}
                continue
            for base in kind.__mro__:
                if name in BOUNDS.get(base, {}):
                    default = properties[name].get("default", msgspec.UNSET)
                    told_default = {} if default is msgspec.UNSET else {"default": default}
                    properties[name] = BOUNDS[base][name] | told_default
                    break

    def _say_what_input_holds(self) -> None:
        """Of a response, whose items are converted one by one."""
        items = {"anyOf": [self.of(kind) for kind in ITEMS]}
        several = {"type": "array", "items": items, "minItems": 1, "maxItems": MOST_ITEMS}
        for kind in self._kinds:
            if isinstance(kind, type) and issubclass(kind, PromptFields):
                self._properties(kind)["input"] = {"anyOf": [{"type": "string"}, several]}
