"""Names of shapes as readers of the document see them."""

from __future__ import annotations

import re
from typing import Any

REF = "#/components/schemas/{name}"
_HEAD = REF.format(name="")


def readable(name: str) -> str:
    """Of two classes with one name msgspec tells the modules as well, and of ``Page[X]`` both:
    the folder is enough to tell them apart."""
    if found := re.fullmatch(r"(.*?)Page_(.+?)_?", name):
        return f"PageOf{readable(found[2])}"
    module, _, last = name.rpartition(".")
    folders = [part for part in module.split(".")[1:] if part != "management"][:1]
    words = "_".join([*folders, last]).split("_") if folders else [name]
    return "".join(word[:1].upper() + word[1:] for word in words)


def renamed(shape: Any) -> Any:
    """A schema whose references lead to readable names."""
    if isinstance(shape, dict):
        return {
            key: REF.format(name=readable(value.removeprefix(_HEAD)))
            if key == "$ref" and value.startswith(_HEAD)
            else renamed(value)
            for key, value in shape.items()
        }
    return [renamed(each) for each in shape] if isinstance(shape, list) else shape
