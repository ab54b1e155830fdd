"""``docs/conformance.md``: its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from api.document.conformance import sdk
from api.document.conformance.verdicts import (
    REFUSED,
    SERVED,
    Verdict,
    parameter_verdict,
    verdict_of,
)
from api.document.guide import table
from api.document.operations import DESCRIBED
from api.document.schemas import Schemas

MOST_LISTED = 12  # names in one row


def method_verdicts() -> dict[sdk.SdkMethod, Verdict]:
    found = {each.name: each for each in sdk.methods()}
    return {each: verdict_of(each, found) for each in found.values()}


def parameter_verdicts(path: str) -> dict[str, Verdict]:
    form = DESCRIBED["POST", path].body
    properties = Schemas([form]).component_of(form)["properties"]
    return {
        name: parameter_verdict(path, form, name, properties.get(name))
        for name in sdk.parameters(path)
    }


def own_parameters(path: str) -> list[str]:
    """Fields that are served and that OpenAI's client has no name for: vLLM's, mostly."""
    form = DESCRIBED["POST", path].body
    return sorted(set(form.__struct_fields__) - set(sdk.parameters(path)))


def render_conformance() -> str:
    verdicts = method_verdicts()
    counts = Counter(verdict.word for verdict in verdicts.values())
    parts = [
        f"The official Python client, `openai` {sdk.version()}, has {len(verdicts)} methods: "
        f"{counts[SERVED]} are served, {counts[REFUSED]} are refused by design.\n",
        "## Methods that are served\n",
        table(("method", "call", "limits"), _rows(verdicts, SERVED)),
        "## Methods that are refused\n",
        "With 404 `unsupported_endpoint` and the reason, unless it says otherwise.\n",
        table(("methods", "call", "reason"), _refusals(verdicts)),
    ]
    for path in sdk.PARAMETERS:
        rows = [
            (f"`{name}`", verdict.word, verdict.note)
            for name, verdict in parameter_verdicts(path).items()
        ]
        own = ", ".join(f"`{name}`" for name in own_parameters(path))
        parts += [
            f"## Parameters of `{path}`\n",
            table(("parameter", "", "bounds, notes or reason"), rows),
            f"Beyond OpenAI's: {own}.\n",
        ]
    return "\n".join(parts)


def _rows(verdicts: dict[sdk.SdkMethod, Verdict], word: str) -> Iterator[tuple[str, str, str]]:
    for method, verdict in verdicts.items():
        if verdict.word == word:
            yield f"`{method.name}`", _call(method), verdict.note


def _refusals(verdicts: dict[sdk.SdkMethod, Verdict]) -> Iterator[tuple[str, str, str]]:
    """One row for those of a resource, and what is below it, that have one reason."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for method, verdict in verdicts.items():
        if verdict.word == REFUSED:
            root = _root(method.name)
            call = "/".join(method.path.split("/")[: 4 if "organization" in method.path else 3])
            name = method.name.removeprefix(f"{root}.")
            groups.setdefault((root, call, verdict.note), []).append(name)
    for (root, call, reason), names in groups.items():
        listed = ", ".join(f"`{name}`" for name in names)
        told = listed if len(names) <= MOST_LISTED else f"all {len(names)} methods"
        yield f"`{root}`: {told}", f"`{call}`" if call else "", reason


def _root(name: str) -> str:
    parts = name.split(".")
    return ".".join(parts[: {"beta": 2, "admin": 3}.get(parts[0], 1)])


def _call(method: sdk.SdkMethod) -> str:
    return f"`{method.method} {method.path}`" if method.path else ""
