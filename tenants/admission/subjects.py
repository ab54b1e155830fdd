"""Whom a request's limits belong to: up to five subjects, each with one state in Redis."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from tenants.admission.kinds import (
    DAY_MS,
    KINDS,
    MINUTE_MS,
    MONTHLY_BUDGET,
    MONTHLY_TOKENS,
    PREPAID_CREDIT,
)
from tenants.principal import NO_LIMITS, Limits, Principal

SubjectKind = Literal["organization", "project", "API key"]
_LIMITS = struct.Struct(f"<{len(KINDS)}d")
_STEPS = struct.Struct("<dd")
_COUNTS = struct.Struct("<BB")
_KEY_BYTES = struct.Struct("<H")


@dataclass(frozen=True, slots=True)
class Amounts:
    """One subject's limits, also as the scripts read them."""

    by_place: tuple[int, ...]  # in the order of KINDS, -1 for none
    packed: bytes
    # How many ms of a bucket one token is, by the minute and by the day; 0 for no bucket.
    steps: bytes

    @property
    def is_empty(self) -> bool:
        return max(self.by_place) < 0

    @property
    def needs_month(self) -> bool:
        return self.by_place[MONTHLY_TOKENS] >= 0 or self.by_place[MONTHLY_BUDGET] >= 0

    @property
    def needs_life(self) -> bool:
        return self.by_place[PREPAID_CREDIT] >= 0


@lru_cache(maxsize=16_384)
def amounts_of(limits: Limits, credit_micros: int | None = None) -> Amounts:
    """Packed once for each set of limits, not once a request."""
    asked = (*astuple(limits), credit_micros)
    by_place = tuple(-1 if amount is None else max(0, amount) for amount in asked)
    _, _, _, minute, day, *_ = by_place
    steps = [
        period / limit if limit > 0 else 0.0
        for period, limit in ((MINUTE_MS, minute), (DAY_MS, day))
    ]
    return Amounts(by_place, _LIMITS.pack(*by_place), _STEPS.pack(*steps))


class Subject(NamedTuple):
    """Who is limited; ``model`` if for one model only. ``key`` is its state's in Redis."""

    kind: SubjectKind
    key: str
    organization: int
    project: int | None
    api_key: int | None
    model: str | None
    amounts: Amounts


def subjects_of(principal: Principal, model: str, *, counts_rates: bool = True) -> list[Subject]:
    """Everybody whom this request counts for: those with limits first, then the others."""
    organization, project, key = principal.organization, principal.project, principal.api_key
    limits_of: Callable[[Limits], Limits] = _as_they_are if counts_rates else _sums_only
    of_organization = amounts_of(
        limits_of(principal.organization_limits), principal.credit_granted_micros
    )
    subjects = [
        Subject("organization", f"limit:o{organization}", organization, None, None, None,
                of_organization),
        Subject("project", f"limit:p{project}", organization, project, None, None,
                amounts_of(limits_of(principal.project_limits))),
        Subject("API key", f"limit:k{key}", organization, None, key, None,
                amounts_of(limits_of(principal.key_limits))),
    ]  # fmt: skip
    by_model = principal.organization_model_limits.get(model, NO_LIMITS)
    if by_model is not NO_LIMITS:
        subjects.append(
            Subject("organization", f"limit:o{organization}:{model}", organization, None, None,
                    model, amounts_of(limits_of(by_model)))
        )  # fmt: skip
    by_model = principal.project_model_limits.get(model, NO_LIMITS)
    if by_model is not NO_LIMITS:
        subjects.append(
            Subject("project", f"limit:p{project}:{model}", organization, project, None, model,
                    amounts_of(limits_of(by_model)))
        )  # fmt: skip
    subjects.sort(key=_is_unlimited)
    return subjects


class Asked(NamedTuple):
    """Whom a principal's requests for one model count for, as the scripts take it."""

    principal: Principal
    subjects: list[Subject]
    keys: tuple[str, ...]  # the states of those with a limit, in order
    limits: bytes  # of each of them
    held: bytes  # what a hold remembers of all subjects: how many, each one's steps and key
    places: int  # of the requests at once


def asked_of(principal: Principal, model: str, counts_rates: bool) -> Asked:
    subjects = subjects_of(principal, model, counts_rates=counts_rates)
    limited = [subject for subject in subjects if not subject.amounts.is_empty]
    held = [_COUNTS.pack(len(limited), len(subjects))]
    for subject in subjects:
        key = subject.key.encode()
        held += (subject.amounts.steps, _KEY_BYTES.pack(len(key)), key)
    return Asked(
        principal,
        subjects,
        tuple(subject.key for subject in limited),
        b"".join(subject.amounts.packed for subject in limited),
        b"".join(held),
        int(counts_rates),
    )


def _as_they_are(limits: Limits) -> Limits:
    return limits


@lru_cache(maxsize=4_096)
def _sums_only(limits: Limits) -> Limits:
    return Limits(
        monthly_tokens=limits.monthly_tokens, monthly_budget_micros=limits.monthly_budget_micros
    )


def _is_unlimited(subject: Subject) -> bool:
    return subject.amounts.is_empty


def keys_of(organization: int, project: int, api_key: int | None, model: str) -> list[str]:
    """The states that a request of theirs may have counted in."""
    keys = [
        f"limit:o{organization}",
        f"limit:p{project}",
        f"limit:o{organization}:{model}",
        f"limit:p{project}:{model}",
    ]
    return keys if api_key is None else [*keys, f"limit:k{api_key}"]
