"""From a model's name to deployments: what a caller may use, and what stands in when it is away."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.controls import Controls
from api.models import handler as model_handler
from api.resolve import find_model, resolve, stands_in_for
from inference.errors import InvalidRequest, ModelNotFound, Overloaded
from inference.registry import ModelEntry, Served, Snapshot
from tenants.principal import Principal
from tests.inference.callers import make_served
from tests.tenants.factory import make_principal

OURS, THEIRS = 5, 6


@dataclass
class Fleet:
    """Which deployments have a ready replica now."""

    ready: set[int] = field(default_factory=set)
    busy: set[int] = field(default_factory=set)

    def has_replica(self, deployments: Iterable[int]) -> bool:
        return not self.ready.isdisjoint(deployments)

    def excess_wait_s(
        self, candidates: Iterable[Served], tier: str, organization: int, weight: int
    ) -> float:
        return (
            0.0
            if tier == "batch" or any(s.deployment not in self.busy for s in candidates)
            else 7.5
        )


def model(name: str, *deployments: tuple[int, int | None], fallback: str | None = None, kind: str = "chat") -> ModelEntry:  # fmt: skip
    """Deployments as (number, whom it is kept for)."""
    served = tuple(make_served(number, dedicated_to=owner) for number, owner in deployments)
    return ModelEntry(name, kind, "sluice", 0, fallback, served)


def gateway(
    *models: ModelEntry,
    ready: set[int],
    busy: set[int] | None = None,
    aliases: dict[str, str] | None = None,
) -> Any:
    snapshot = Snapshot({each.name: each for each in models}, aliases or {})
    return SimpleNamespace(
        registry=SimpleNamespace(snapshot=snapshot), dispatcher=Fleet(ready, busy or set())
    )


def caller(organization: int = OURS, **fields: object) -> Principal:
    return replace(make_principal(), organization=organization, **fields)


def numbers(gate: Any, name: str, principal: Principal) -> tuple[str, list[int]]:
    entry, deployments = resolve(gate, name, "chat", principal)
    return entry.name, [served.deployment for served in deployments]


def test_a_model_that_is_up_is_itself() -> None:
    gate = gateway(model("a", (1, None), fallback="b"), model("b", (2, None)), ready={1, 2})

    assert numbers(gate, "a", caller()) == ("a", [1])


def test_a_model_that_is_away_is_stood_in_for() -> None:
    models = [model("a", (1, None), fallback="b"), model("b", (2, None), fallback="c"), model("c", (3, None))]  # fmt: skip

    assert numbers(gateway(*models, ready={2, 3}), "a", caller()) == ("b", [2])
    assert numbers(gateway(*models, ready={3}), "a", caller()) == ("c", [3])
    # With nobody up it is the one that was asked for that is told to be away.
    assert numbers(gateway(*models, ready=set()), "a", caller()) == ("a", [1])


def test_a_ring_of_fallbacks_ends() -> None:
    models = [model("a", (1, None), fallback="b"), model("b", (2, None), fallback="a")]

    assert numbers(gateway(*models, ready=set()), "a", caller())[0] in ("a", "b")


def test_another_organizations_replica_is_no_reason_not_to_fall_back() -> None:
    models = [model("a", (1, None), (9, THEIRS), fallback="b"), model("b", (2, None))]
    gate = gateway(*models, ready={9, 2})

    assert numbers(gate, "a", caller()) == ("b", [2])
    assert numbers(gate, "a", caller(THEIRS)) == ("a", [9, 1])


def test_a_fallback_that_is_kept_for_others_does_not_stand_in() -> None:
    models = [model("a", (1, None), fallback="b"), model("b", (9, THEIRS))]

    assert numbers(gateway(*models, ready={9}), "a", caller()) == ("a", [1])


def test_a_fallback_of_another_kind_or_that_is_gone_does_not_stand_in() -> None:
    models = [model("a", (1, None), fallback="b"), model("b", (2, None), kind="embedding")]

    assert numbers(gateway(*models, ready={2}), "a", caller()) == ("a", [1])
    assert numbers(gateway(models[0], ready={2}), "a", caller()) == ("a", [1])


@pytest.mark.parametrize(
    "terms",
    [
        {"denied_models": frozenset({"b"})},
        {"denied_models": frozenset({"stand-in"})},  # its alias
        {"allowed_models": (frozenset({"a"}),)},
    ],
)
def test_a_fallback_that_the_caller_may_not_use_does_not_stand_in(terms: dict) -> None:
    models = [model("a", (1, None), fallback="b"), model("b", (2, None))]
    gate = gateway(*models, ready={2}, aliases={"stand-in": "b"})

    assert numbers(gate, "a", caller(**terms)) == ("a", [1])


def test_lists_hold_for_every_name_of_a_model() -> None:
    gate = gateway(model("tiny", (1, None)), ready={1}, aliases={"gpt-4o": "tiny", "small": "tiny"})
    for listed in ("tiny", "gpt-4o", "small"):
        for asked in ("tiny", "gpt-4o", "small"):
            denied = caller(denied_models=frozenset({listed}))
            with pytest.raises(ModelNotFound):
                find_model(gate, asked, denied)
            allowed = caller(allowed_models=(frozenset({listed}),))
            assert find_model(gate, asked, allowed)[0].name == "tiny"
    # Both the key's list and the project's must hold it, by whichever name.
    both = caller(allowed_models=(frozenset({"gpt-4o"}), frozenset({"small"})))
    assert find_model(gate, "tiny", both)
    with pytest.raises(ModelNotFound):
        find_model(gate, "tiny", caller(allowed_models=(frozenset({"gpt-4o"}), frozenset({"x"}))))


def test_what_is_not_for_the_caller_is_absent_in_the_same_words() -> None:
    gate = gateway(model("kept", (9, THEIRS)), model("open", (1, None)), ready={9, 1})
    said = []
    for name, principal in (
        ("kept", caller()),
        ("open", caller(denied_models=frozenset({"open"}))),
        ("none", caller()),
    ):
        with pytest.raises(ModelNotFound) as refusal:
            resolve(gate, name, "chat", principal)
        said.append(refusal.value.message.replace(name, ""))
    assert len(set(said)) == 1


def test_the_wrong_endpoint_tells_nothing_of_a_model_that_is_not_for_the_caller() -> None:
    gate = gateway(model("kept", (9, THEIRS), kind="embedding"), ready={9})

    with pytest.raises(ModelNotFound):
        resolve(gate, "kept", "chat", caller())
    with pytest.raises(InvalidRequest):
        resolve(gate, "kept", "chat", caller(THEIRS))


names = st.frozensets(st.sampled_from(["a", "b", "alias-a", "alias-b", "gone"]), max_size=3)


@given(names, st.lists(names, max_size=2), st.sampled_from([OURS, THEIRS]))
def test_the_list_shows_exactly_what_can_be_asked(
    denied: frozenset[str], allowed: list[frozenset[str]], organization: int
) -> None:
    gate = gateway(
        model("a", (1, None)), model("b", (9, THEIRS)), ready={1, 9},
        aliases={"alias-a": "a", "alias-b": "b"},
    )  # fmt: skip
    principal = caller(
        organization, denied_models=denied, allowed_models=tuple(filter(None, allowed))
    )
    listed = {each["id"] for each in json.loads(model_handler.list_models(gate, principal))["data"]}

    for asked, name in (("a", "a"), ("alias-a", "a"), ("b", "b"), ("alias-b", "b")):
        try:
            find_model(gate, asked, principal)
            model_handler.get_model(gate, principal, asked)
        except ModelNotFound:
            assert name not in listed
        else:
            assert name in listed


def test_a_listed_model_shows_the_context_of_what_the_caller_uses() -> None:
    entry = model("a", (9, THEIRS), (1, None))
    long = replace(entry.deployments[0], max_context_tokens=10**6)
    gate = gateway(replace(entry, deployments=(long, entry.deployments[1])), ready={1, 9})

    def shown(organization: int) -> int:
        return json.loads(model_handler.get_model(gate, caller(organization), "a"))["max_model_len"]

    assert shown(OURS) == entry.deployments[1].max_context_tokens
    assert shown(THEIRS) == 10**6


# --- Overload ----------------------------------------------------------------------------------


def test_overload_is_refused_at_once_with_the_time_to_wait() -> None:
    gate = gateway(
        model("a", (1, None), fallback="b"), model("b", (2, None)), ready={1, 2}, busy={1}
    )
    with pytest.raises(Overloaded) as refusal:
        resolve(gate, "a", "chat", caller())
    assert (refusal.value.status, refusal.value.retry_after_s) == (503, 7.5)

    entry, _ = resolve(gate, "a", "chat", caller(), "batch")
    assert entry.name == "a"


def test_who_allows_it_is_answered_by_the_fallback_and_told() -> None:
    models = [model("a", (1, None), fallback="b"), model("b", (2, None), fallback="c"), model("c", (3, None))]  # fmt: skip
    allowed = Controls(allows_fallback=True)
    gate = gateway(*models, ready={1, 2, 3}, busy={1}, aliases={"alias": "a"})
    entry, _ = resolve(gate, "alias", "chat", caller(), controls=allowed)
    assert entry.name == "b"
    assert stands_in_for(gate, "alias", entry) == "a" and stands_in_for(gate, "b", entry) == ""

    busier = gateway(*models, ready={1, 2, 3}, busy={1, 2})
    assert resolve(busier, "a", "chat", caller(), controls=allowed)[0].name == "c"
    full = gateway(*models, ready={1, 2, 3}, busy={1, 2, 3})
    with pytest.raises(Overloaded, match="`a`"):
        resolve(full, "a", "chat", caller(), controls=allowed)


def test_who_forbids_it_is_answered_by_nobody_else() -> None:
    gate = gateway(model("a", (1, None), fallback="b"), model("b", (2, None)), ready={2})
    entry, _ = resolve(gate, "a", "chat", caller(), controls=Controls(allows_fallback=False))
    assert entry.name == "a"
