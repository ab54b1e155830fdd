"""Parts of pages that are made of the code are what the code says now, and nothing is missing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.document.__main__ import DOCS, main, parts
from api.document.errors import CATALOGUE
from api.document.guide import with_part
from api.document.limits import INTERNAL, LIMITS

ROOT = DOCS.parent
# Doors and rooms whose errors reach a client of the API.
ROOMS = ("tenants", "billing", "inference", "api")
# Of pages, of the model store and of the jobs; no client of the API is answered with these.
NOT_OF_THE_API = {
    "invalid_request",  # of base classes alone
    "invitation_invalid", "already_done",  # of pages
    "invalid_source", "missing_package", "checksum_mismatch", "version_taken", "fetch_failed",
    "conversion_failed", "store_busy",  # of the model store
}  # fmt: skip


@pytest.mark.parametrize(("page", "name"), [part[:2] for part in parts()])
def test_a_page_is_what_the_code_says(page: str, name: str) -> None:
    render = next(each[2] for each in parts() if each[:2] == (page, name))
    text = (DOCS / page).read_text()
    assert with_part(text, name, render()) == text, "run: python -m api.document --write"


def test_the_command_says_so_too() -> None:
    assert main([]) == 0


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(LookupError, match="no place for errors"):
        with_part("# API guide\n", "errors", "")


def sources(*rooms: str) -> Iterator[tuple[str, ast.Module]]:
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            if "migrations" not in path.parts:
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                yield module, ast.parse(path.read_text())


def codes_in(tree: ast.Module) -> Iterator[str]:
    """Texts that are assigned to something called ``code``, alone, in a chain or beside others."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        value = getattr(node, "value", None)
        for target in targets:
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = list(zip(target.elts, value.elts, strict=True))
            for one, given in pairs:
                if "code" in (getattr(one, "id", ""), getattr(one, "attr", "")):
                    yield from texts_of(given)


def texts_of(value: ast.expr | None) -> Iterator[str]:
    """Of a constant, or of both ends of a choice."""
    if isinstance(value, ast.IfExp):
        yield from texts_of(value.body)
        yield from texts_of(value.orelse)
    elif isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value


# What makes errors of parts, and which of its arguments is the code.
MAKERS = {"ApiError": 4, "_named": 2, "_refused": 0}
# OpenAI's, in the `error` of a response that failed; not of an answer that is an error.
OF_FAILED_RESPONSES = {"server_error", "invalid_prompt"}


def codes_in_arguments(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in MAKERS:
            place = MAKERS[node.func.id]
            named = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            for given in [*node.args[place : place + 1], *named]:
                yield from texts_of(given)


def raised_codes() -> dict[str, str]:
    """Each code that a client can get, and a module that raises it."""
    found: dict[str, str] = {}
    for module, tree in sources(*ROOMS):
        if not module.startswith("api.document"):
            found |= dict.fromkeys([*codes_in(tree), *codes_in_arguments(tree)], module)
    for code in NOT_OF_THE_API | OF_FAILED_RESPONSES:
        assert found.pop(code, None), f"{code} is raised no more"
    return found


def test_the_catalogue_has_every_code_that_the_code_can_raise() -> None:
    raised = raised_codes()
    assert {"stream_lost", "invalid_type", "too_many_requests", "range_not_satisfiable"} <= set(
        raised
    )
    known = {each.code for each in CATALOGUE if each.code}
    assert {code: where for code, where in raised.items() if code not in known} == {}
    assert known - set(raised) == set(), "in the catalogue, and raised nowhere"


def test_every_bound_of_the_api_is_on_the_page_or_named_as_one_of_the_inside() -> None:
    told = {each.source for group in LIMITS.values() for each in group}
    bounds = set()
    for module, tree in sources("api"):
        for node in tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [
                    n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)
                ]
                bounds |= {
                    f"{module}:{name}" for name in names
                    if re.match(r"(MOST|LEAST|LONGEST)_|LONGEST$", name)
                }  # fmt: skip
    bounds = {each for each in bounds if not each.startswith("api.document")}
    assert bounds - told - set(INTERNAL) == set(), "neither in api.document.limits nor internal"
    assert set(INTERNAL) <= bounds and all(INTERNAL.values())
    for group in LIMITS.values():
        for each in group:
            assert each.value > 0 and each.told, each.source


def test_the_guide_names_these_pages() -> None:
    guide = (DOCS / "api.md").read_text()
    for page in ("limits.md", "conformance.md"):
        assert f"]({page}" in guide and Path(DOCS / page).exists()
