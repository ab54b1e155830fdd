"""What headers ask for beside the body, and which class a request runs in: pure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api.controls import DEFAULT, LONGEST_AGE_S, Controls, controls_of
from api.parameters import tier_name, tier_of
from inference.errors import InvalidRequest
from tests.tenants.factory import make_principal


def header(name: str, value: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (name.encode(), value.encode())]


def test_without_headers_of_ours_nothing_is_asked() -> None:
    assert controls_of([(b"host", b"x"), (b"x-stainless-lang", b"python")]) is DEFAULT


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("x-sluice-cache", "no-cache", Controls(reads_cache=False)),
        ("x-sluice-cache", " No-Store ", Controls(writes_cache=False)),
        ("x-sluice-cache", "no-cache, no-store", Controls(reads_cache=False, writes_cache=False)),
        ("x-sluice-cache", "max-age=60", Controls(max_age_s=60)),
        ("x-sluice-cache", "max-age=0,no-store", Controls(max_age_s=0, writes_cache=False)),
        ("x-sluice-cache", "max-age=999999999", Controls(max_age_s=LONGEST_AGE_S)),
        ("x-sluice-cache", "semantic", Controls(wants_semantic=True)),
        ("x-sluice-cache", "no-semantic,max-age=9", Controls(wants_semantic=False, max_age_s=9)),
        ("x-sluice-cache", "", Controls()),
        ("x-sluice-allow-fallback", "true", Controls(allows_fallback=True)),
        ("x-sluice-allow-fallback", "0", Controls(allows_fallback=False)),
        ("x-sluice-debug", "1", Controls(wants_explanation=True)),
        ("x-sluice-of-a-newer-release", "?", Controls()),
    ],
)
def test_each_header_is_read(name: str, value: str, expected: Controls) -> None:
    assert controls_of(header(name, value)) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-sluice-cache", "max-age"),
        ("x-sluice-cache", "max-age=-1"),
        ("x-sluice-cache", "max-age=1e3"),
        ("x-sluice-cache", "max-age=9999999999999999999"),
        ("x-sluice-cache", "private"),
        ("x-sluice-allow-fallback", "perhaps"),
        ("x-sluice-debug", "yes please"),
        ("x-sluice-debug", "\xff"),
    ],
)
def test_nonsense_is_refused_by_the_headers_name(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        controls_of(header(name, value))
    assert refusal.value.param == name


@pytest.mark.parametrize(
    ("asked", "has_priority", "runs_as", "is_told"),
    [
        (None, False, "standard", "default"),
        ("auto", True, "standard", "default"),
        ("default", True, "standard", "default"),
        ("flex", False, "flex", "flex"),
        ("priority", True, "priority", "priority"),
        ("priority", False, "standard", "default"),
    ],
)
def test_tiers(asked: str | None, has_priority: bool, runs_as: str, is_told: str) -> None:
    principal = replace(make_principal(), allows_priority=has_priority)

    assert tier_of(asked, principal) == runs_as
    assert tier_name(runs_as) == is_told


@pytest.mark.parametrize("asked", ["scale", "batch", "standard", "PRIORITY"])
def test_other_tiers_are_refused_by_name(asked: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        tier_of(asked, make_principal())
    assert (refusal.value.param, refusal.value.code) == ("service_tier", "unsupported_parameter")
