"""Bounds of schemas, regular expressions and the rest, and which field an error names."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import structured_outputs as bounds
from api.structured_outputs import StructuredFields, check_regex, check_schema, structured_of
from inference.errors import InvalidRequest

decode = msgspec.json.Decoder(StructuredFields).decode


def constraint(**fields: Any) -> tuple[dict[str, Any] | None, str]:
    return structured_of(decode(msgspec.json.encode(fields)))


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


def test_each_form_is_the_engines() -> None:
    schema = {"type": "object"}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    assert constraint() == (None, "")
    assert constraint(response_format={"type": "text"}) == (None, "")
    assert constraint(response_format={"type": "json_object"})[0] == {"json_object": True}
    assert constraint(response_format=wanted) == (
        {"json": schema},
        "response_format.json_schema.schema",
    )
    assert constraint(structured_outputs={"choice": ["a"]})[0] == {"choice": ["a"]}
    assert constraint(guided_regex="a+") == ({"regex": "a+"}, "guided_regex")
    tag = {"type": "structural_tag", "format": {"type": "any_text"}}
    found, field = constraint(response_format=tag)
    assert field == "response_format.format"
    assert found is not None
    assert msgspec.json.decode(found["structural_tag"]) == tag


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "response_format.json_schema.schema",
        ),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"json_object": False}}, "structured_outputs.json_object"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs.choice"),
        ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "guided_regex"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": "[]"}, "guided_json"),
        ({"guided_json": nested(40)}, "guided_json"),
        ({"guided_json": {"const": "x" * 140_000}}, "guided_json"),
        ({"guided_json": {"properties": {str(n): {} for n in range(5_001)}}}, "guided_json"),
        ({"guided_json": {"enum": list(range(1_001))}}, "guided_json"),
        ({"guided_json": {"items": {"pattern": "(a{900}){900}"}}}, "guided_json"),
        ({"guided_json": {"patternProperties": {"(?=a)b": {}}}}, "guided_json"),
        ({"guided_json": {"const": 2**64}}, "guided_json"),
        ({"guided_json": {"$ref": "http://169.254.169.254/latest"}}, "guided_json"),
        ({"guided_json": {"items": {"$ref": "file:///etc/passwd"}}}, "guided_json"),
        ({"guided_json": {"$ref": "other.json#/a"}}, "guided_json"),
        ({"guided_regex": ""}, "guided_regex"),
        ({"guided_regex": "a" * 2_049}, "guided_regex"),
        ({"guided_regex": "(a{1,200}){1,200}"}, "guided_regex"),
        ({"guided_regex": "a{99999999999999999999}"}, "guided_regex"),
        ({"guided_regex": "(" * 40 + "a" + ")" * 40}, "guided_regex"),
        ({"guided_regex": "(?!a)b"}, "guided_regex"),
        ({"guided_regex": r"(a)\1"}, "guided_regex"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_choice": ["a", ""]}, "guided_choice[1]"),
        ({"guided_choice": ["a"] * 1_001}, "guided_choice"),
        ({"guided_grammar": " "}, "guided_grammar"),
        ({"guided_grammar": "a" * 40_000}, "guided_grammar"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
    ],
)
def test_what_is_out_of_bounds_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        constraint(**fields)
    assert refused.value.param == param


def test_ordinary_ones_pass() -> None:
    assert check_schema(nested(30), "f")
    for pattern in (
        r"\d{3}-\d{4}",
        "[^]]{1,50}",
        "(?:a|b)+",
        r"(?P<year>\d{4})",
        "^a$",
        "{",
        "a)b",
    ):
        assert check_regex(pattern, "f") == pattern
    assert check_schema({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, "f")
    assert check_schema({"properties": {"$ref": {"type": "string"}}}, "f")
    # A property called "pattern" holds a schema, not a regular expression.
    assert check_schema({"properties": {"pattern": {"type": "string"}}}, "f")


@given(st.text(max_size=60), st.integers(1, 12), st.integers(1, 12))
def test_a_regex_is_as_long_as_it_matches(text: str, inner: int, outer: int) -> None:
    """The size that is bounded is that of the longest text, for what has no open end."""
    literal = re.escape(text)
    size = len(text) * inner * outer
    pattern = f"((?:{literal}){{{inner}}}){{1,{outer}}}"
    if size > bounds.MOST_REGEX_SIZE or not text:
        return
    assert check_regex(pattern, "f") == pattern
    if size * 1_000 > bounds.MOST_REGEX_SIZE * 1.5 and len(pattern) < 2_000:
        with pytest.raises(InvalidRequest):
            check_regex(f"({pattern}){{1000}}", "f")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["type", "pattern", "enum", "properties", "items", "patternProperties"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_a_schema_or_refused_by_name(value: Any) -> None:
    try:
        assert check_schema(value, "field") == (
            msgspec.json.decode(value) if isinstance(value, str) else value
        )
    except InvalidRequest as error:
        assert error.param == "field"
