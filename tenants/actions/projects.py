"""Projects: made, changed, archived; their people and their limits of single models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from tenants import audit, permissions
from tenants.actions.giving import check_gives
from tenants.actions.names import checked_name
from tenants.actions.notices import notify_change
from tenants.errors import InvalidInput, NotFound
from tenants.models import (
    LimitFields,
    Membership,
    Organization,
    Project,
    ProjectMembership,
    ProjectModelLimit,
    ProjectRole,
    User,
)

# More would make a key's look-up long; OpenAI's own lists are of this order.
MOST_MODEL_NAMES = 200
LIMIT_NAMES = tuple(field.name for field in LimitFields._meta.get_fields())


@transaction.atomic
def create_project(
    organization: Organization,
    name: str,
    *,
    limits: Mapping[str, int | None] | None = None,
    acting_user: User | None,
    address: str | None = None,
) -> Project:
    name = checked_name(name)
    checked = {limit: _checked_change(limit, value) for limit, value in (limits or {}).items()}
    try:
        with transaction.atomic():
            project = Project.objects.create(organization=organization, name=name, **checked)
    except IntegrityError as error:
        raise InvalidInput("A project of this name exists.", param="name") from error
    audit.record_event(
        acting_user=acting_user,
        action="project.created",
        object_type="project",
        object_id=project.public_id,
        organization=organization,
        project=project.public_id,
        after={"name": name, **checked},
        address=address,
    )
    return project


@transaction.atomic
def update_project(
    project: Project,
    changes: dict[str, Any],
    *,
    acting_user: User | None,
    address: str | None = None,
) -> Project:
    """Change name, limits (``LimitFields``), ``allowed_models`` or ``denied_models``."""
    changes = {name: _checked_change(name, value) for name, value in changes.items()}
    before = {name: getattr(project, name) for name in changes}
    for name, value in changes.items():
        setattr(project, name, value)
    try:
        with transaction.atomic():
            project.save(update_fields=list(changes))
    except IntegrityError as error:
        raise InvalidInput("A project of this name exists.", param="name") from error
    _record(project, "project.updated", acting_user, address, before=before, after=changes)
    notify_change(project.organization_id)
    return project


def _checked_change(name: str, value: Any) -> Any:
    if name == "name":
        return checked_name(value)
    if name in ("allowed_models", "denied_models"):
        return checked_model_names(value, name)
    if name not in LIMIT_NAMES:
        raise InvalidInput("This cannot be changed.", param=name)
    return checked_limit(value, name)


def checked_limit(value: Any, param: str) -> int | None:
    """A limit as the database holds it: a whole number from 0, or none."""
    if value is None:
        return None
    is_number = isinstance(value, int) and not isinstance(value, bool)
    largest = 2**63 - 1 if "tokens" in param or "micros" in param else 2**31 - 1
    if param == "tokens_per_minute":
        largest = 2**31 - 1
    if not is_number or not 0 <= value <= largest:
        raise InvalidInput(f"A limit is a whole number from 0 to {largest}, or null.", param=param)
    return int(value)


def checked_model_names(names: Any, param: str) -> list[str]:
    """Public names of models, each once, in the order given."""
    if not isinstance(names, list) or len(names) > MOST_MODEL_NAMES:
        raise InvalidInput(f"Give a list of at most {MOST_MODEL_NAMES} model names.", param=param)
    for name in names:
        if not isinstance(name, str) or not 1 <= len(name) <= 120 or not name.isprintable():
            raise InvalidInput("A model name has 1 to 120 printable characters.", param=param)
    return list(dict.fromkeys(names))


@transaction.atomic
def archive_project(
    project: Project, *, acting_user: User | None, address: str | None = None
) -> Project:
    """Refuse its keys from now on; its usage stays. Twice is once."""
    archived = Project.objects.filter(pk=project.pk, archived_at=None).update(
        archived_at=timezone.now()
    )
    project.refresh_from_db()
    if archived:
        _record(project, "project.archived", acting_user, address, before={"name": project.name})
    notify_change(project.organization_id)
    return project


@transaction.atomic
def set_project_model_limit(
    project: Project,
    model: str,
    changes: dict[str, int | None],
    *,
    acting_user: User | None,
    address: str | None = None,
) -> ProjectModelLimit:
    """Change what the project may use of one model."""
    changes = {name: checked_limit(value, name) for name, value in changes.items()}
    model = checked_model_names([model], "model")[0]
    limit, _ = ProjectModelLimit.objects.get_or_create(
        project=project, model=model, defaults={"organization": project.organization}
    )
    before = {name: getattr(limit, name) for name in changes}
    for name, value in changes.items():
        setattr(limit, name, value)
    limit.save(update_fields=list(changes))
    after = {"model": model, **changes}
    _record(project, "rate_limit.updated", acting_user, address, before=before, after=after)
    notify_change(project.organization_id)
    return limit


# --- People ------------------------------------------------------------------------------


@transaction.atomic
def add_project_member(
    project: Project,
    user: User,
    role: str,
    *,
    acting_user: User | None,
    address: str | None = None,
) -> ProjectMembership:
    """Give a member of the organization a role in the project, of no more than one has."""
    role = _checked_role(role)
    _check_gives(project, {role}, acting_user)
    if not Membership.objects.filter(organization=project.organization_id, user=user).exists():
        raise NotFound("No such user.", param="user_id")
    membership, is_new = ProjectMembership.objects.get_or_create(
        project=project, user=user, defaults={"organization": project.organization, "role": role}
    )
    if not is_new:
        raise InvalidInput("This user is a member of the project already.", param="user_id")
    after = {"user": user.public_id, "role": role}
    _record(project, "project_member.added", acting_user, address, after=after)
    return membership


@transaction.atomic
def change_project_member(
    membership: ProjectMembership,
    role: str,
    *,
    acting_user: User | None,
    address: str | None = None,
) -> ProjectMembership:
    """Neither role may exceed what who acts has."""
    before = {"user": membership.user.public_id, "role": membership.role}
    _check_gives(membership.project, {membership.role, _checked_role(role)}, acting_user)
    membership.role = role
    membership.save(update_fields=["role"])
    after = {"user": membership.user.public_id, "role": membership.role}
    _record(
        membership.project, "project_member.changed", acting_user, address,
        before=before, after=after,
    )  # fmt: skip
    return membership


@transaction.atomic
def remove_project_member(
    membership: ProjectMembership, *, acting_user: User | None, address: str | None = None
) -> None:
    """Anybody may leave; others are removed by who has what they had."""
    before = {"user": membership.user.public_id, "role": membership.role}
    if acting_user is None or acting_user.pk != membership.user_id:
        _check_gives(membership.project, {membership.role}, acting_user)
    _record(membership.project, "project_member.removed", acting_user, address, before=before)
    membership.delete()


def _check_gives(project: Project, roles: set[str], acting_user: User | None) -> None:
    given = frozenset().union(*(permissions.OF_PROJECT_ROLE[role] for role in roles))
    check_gives(project.organization, given, project, acting_user=acting_user)


def _checked_role(role: str) -> str:
    if role not in ProjectRole.values:
        raise InvalidInput(f"A role is one of {', '.join(ProjectRole.values)}.", param="role")
    return role


def _record(
    project: Project,
    action: str,
    acting_user: User | None,
    address: str | None,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    audit.record_event(
        acting_user=acting_user,
        action=action,
        object_type="project",
        object_id=project.public_id,
        organization=project.organization,
        project=project.public_id,
        before=before,
        after=after,
        address=address,
    )
