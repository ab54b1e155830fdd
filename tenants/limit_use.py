"""Every limit of an organization and of its parts, and how close it is to each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis
from django.db.models import Q, QuerySet

from tenants import selectors
from tenants.admission.kinds import KINDS, Kind
from tenants.admission.standing import State, read_states
from tenants.admission.subjects import Amounts, SubjectKind, amounts_of
from tenants.models import ApiKey, Organization, Project, ProjectModelLimit
from tenants.principal import Limits
from tenants.principals import limits_of, limits_of_organization

# Of projects, of their models and of keys each: what is shown on a page.
MOST_PARTS = 50


@dataclass(frozen=True)
class LimitUse:
    """``used`` is None while nobody knows: Redis is away, or the sum is the ledger's alone."""

    place: int  # in KINDS
    limit: int
    used: int | None

    @property
    def kind(self) -> Kind:
        return KINDS[self.place]


@dataclass(frozen=True)
class SubjectUse:
    """One subject of limits with each of them; ``project`` and ``api_key`` are primary keys."""

    kind: SubjectKind
    name: str
    public_id: str
    project: int | None
    api_key: int | None
    model: str | None
    limits: tuple[LimitUse, ...]


@dataclass(frozen=True)
class LimitReport:
    subjects: tuple[SubjectUse, ...]  # the organization first
    running: int | None  # requests in flight; None if nobody knows
    is_current: bool  # False: Redis is away, and only what the ledger knows is known

    @property
    def organization(self) -> SubjectUse:
        return self.subjects[0]


@dataclass(frozen=True)
class _Subject:
    kind: SubjectKind
    key: str
    row: Organization | Project | ApiKey
    amounts: Amounts
    model: str | None = None

    def used(self, state: State | None) -> SubjectUse:
        limits = self.amounts.by_place
        used = state.used_of(limits) if state else (None,) * len(limits)
        return SubjectUse(
            kind=self.kind,
            name=self.row.name,
            public_id=self.row.public_id,
            project=self.row.pk if self.kind == "project" else None,
            api_key=self.row.pk if self.kind == "API key" else None,
            model=self.model,
            limits=tuple(
                LimitUse(place, limit, used[place])
                for place, limit in enumerate(limits)
                if limit >= 0
            ),
        )


def get_limit_report(organization: Organization, *, with_parts: bool = True) -> LimitReport:
    """Of the organization and, ``with_parts``, of its projects' and keys' own limits.

    Needs the organization's ``plan``. Redis away is an answer, not an error.
    """
    subjects = [_whole(organization), *(_parts(organization) if with_parts else ())]
    states: list[State | None] = [None] * len(subjects)
    with suppress(redis.RedisError):  # told by is_current
        states[:] = read_states([subject.key for subject in subjects])
    shown = tuple(subject.used(state) for subject, state in zip(subjects, states, strict=True))
    first = states[0]
    # Without limits there is no state, and the requests in flight are counted by nobody.
    running = first.running if first and not subjects[0].amounts.is_empty else None
    return LimitReport(shown, running, first is not None)


def _whole(organization: Organization) -> _Subject:
    credit = organization.credit_granted_micros if organization.is_prepaid else None
    amounts = amounts_of(limits_of_organization(organization), credit)
    return _Subject("organization", f"limit:o{organization.pk}", organization, amounts)


def _parts(organization: Organization) -> Iterator[_Subject]:
    whole = f"limit:o{organization.pk}"
    for limit in selectors.get_plan_model_limits(organization)[:MOST_PARTS]:
        amounts = amounts_of(limits_of(limit))
        yield _Subject("organization", f"{whole}:{limit.model}", organization, amounts, limit.model)
    projects = selectors.get_projects(organization)
    for project in _limited(projects)[:MOST_PARTS]:
        yield _Subject("project", f"limit:p{project.pk}", project, amounts_of(limits_of(project)))
    for row in _project_models(organization):
        key = f"limit:p{row.project_id}:{row.model}"
        yield _Subject("project", key, row.project, amounts_of(limits_of(row)), row.model)
    for api_key in _limited(selectors.get_api_keys(organization, state="live"))[:MOST_PARTS]:
        amounts = amounts_of(limits_of(api_key))
        yield _Subject("API key", f"limit:k{api_key.pk}", api_key, amounts)


def _project_models(organization: Organization) -> Iterable[ProjectModelLimit]:
    limits = ProjectModelLimit.objects.filter(
        project__organization=organization, project__archived_at=None
    )
    return limits.select_related("project").order_by("project", "model")[:MOST_PARTS]


def _limited(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Those with a limit of their own."""
    is_set = Q()
    for name in Limits.__dataclass_fields__:
        is_set |= Q(**{f"{name}__isnull": False})
    return rows.filter(is_set)


def has_limits(organization: Organization) -> bool:
    """Whether admission keeps a state for it as a whole, and so counts what is in flight."""
    return not _whole(organization).amounts.is_empty
