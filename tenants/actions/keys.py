"""API keys: made, changed, rotated, suspended, revoked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from tenants import audit, identifiers, keys, locks, networks, permissions
from tenants.actions.giving import check_gives
from tenants.actions.names import checked_name
from tenants.actions.notices import notify_change
from tenants.actions.projects import LIMIT_NAMES, checked_limit, checked_model_names
from tenants.errors import AlreadyDone, InvalidInput, OrganizationSuspended
from tenants.models import ApiKey, Organization, Project, ServiceAccount, User

# The old secret of a rotated key works this long at most, and by default a day.
LONGEST_OVERLAP = timedelta(days=30)
DEFAULT_OVERLAP = timedelta(days=1)
# People look at "last used" in days; a busy key's row is not written anew for every second.
TOUCH_EVERY_S = 60


@dataclass(frozen=True)
class KeyTerms:
    """What a key may do, from where, until when; empty means whatever its kind may."""

    scopes: tuple[str, ...] = ()
    allowed_models: tuple[str, ...] = ()
    allowed_networks: tuple[str, ...] = ()
    expires_at: datetime | None = None
    limits: Mapping[str, int | None] = field(default_factory=dict)


@transaction.atomic
def create_api_key(
    owner: Project | ServiceAccount | Organization,
    name: str,
    *,
    acting_user: User | None,
    expires_at: datetime | None = None,
    terms: KeyTerms | None = None,
    public_id: str | None = None,
    address: str | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its secret's text, which nothing can show again.

    Of a project, of a service account, or an organization's admin key; for the last
    ``terms.scopes`` are permissions, which who acts must have. With a ``public_id`` minted beforehand the call is idempotent:
    the second one raises ``AlreadyDone`` and creates nothing, however close it came.
    """
    name, terms = checked_name(name), terms or KeyTerms(expires_at=expires_at)
    place = _place_of(owner)
    organization: Organization = place["organization"]
    if organization.is_suspended:
        raise OrganizationSuspended("This organization is suspended; it cannot create keys.")
    checked = _checked_terms(place["kind"], terms)
    if place["kind"] == ApiKey.Kind.ADMIN:
        check_gives(organization, _held_by(checked["scopes"]), acting_user=acting_user)
    secret = keys.new_secret(settings.API_KEY_PEPPER, place["kind"])
    program = audit.current_program()
    # What a program makes is its creator's, and ends when they leave, as the program does.
    owner_user = acting_user or (program.key.created_by if program else None)
    # get_or_create leaves the race of two equal submissions to the unique constraint.
    key, is_new = ApiKey.objects.get_or_create(
        public_id=public_id or identifiers.new_key_id(),
        defaults={**place, **checked, **_stored(secret), "created_by": owner_user, "name": name},
    )
    if not is_new:
        raise AlreadyDone("This key was created before.")
    _record(
        key, "api_key.created", acting_user, address,
        after={"name": name, "kind": key.kind, "last_four": key.last_four, **_told(checked)},
    )  # fmt: skip
    return key, secret.text


def _place_of(owner: Project | ServiceAccount | Organization) -> dict[str, Any]:
    if isinstance(owner, Organization):
        return {"kind": ApiKey.Kind.ADMIN, "organization": owner, "project": None}
    if isinstance(owner, Project):
        _check_not_archived(owner)
        return {"kind": ApiKey.Kind.PROJECT, "organization": owner.organization, "project": owner}
    account = locks.lock_service_account(owner)
    _check_not_archived(account.project)
    return {
        "kind": ApiKey.Kind.SERVICE_ACCOUNT,
        "organization": account.organization,
        "project": account.project,
        "service_account": account,
    }


def _check_not_archived(project: Project) -> None:
    if project.archived_at is not None:
        raise InvalidInput("This project is archived.", param="project")


def _held_by(scopes: list[str]) -> frozenset[str]:
    """The permissions of an admin key; without scopes it has every one."""
    return frozenset(scopes) if scopes else permissions.ALL


def _check_may_hold(key: ApiKey, scopes: list[str], acting_user: User | None) -> None:
    """Whoever changes an admin key, or is shown its new secret, must have what it may do."""
    if key.kind == ApiKey.Kind.ADMIN:
        held = _held_by(key.scopes) | _held_by(scopes)
        check_gives(key.organization, held & permissions.ALL, acting_user=acting_user)


def _stored(secret: keys.NewSecret) -> dict[str, Any]:
    return {
        "lookup": secret.lookup,
        "secret_hmac": secret.digest,
        "last_four": secret.last_four,
    }


@transaction.atomic
def update_api_key(
    key: ApiKey,
    *,
    name: str | None = None,
    terms: KeyTerms | None = None,
    acting_user: User | None,
    address: str | None = None,
) -> ApiKey:
    """Change the name, or everything that ``terms`` say; gateways know within a second."""
    changes: dict[str, Any] = {} if terms is None else _checked_terms(key.kind, terms)
    if name is not None:
        changes["name"] = checked_name(name)
    _check_may_hold(key, changes.get("scopes", key.scopes), acting_user)
    before = {field: getattr(key, field) for field in changes}
    changed = dict(changes)
    if "expires_at" in changes and changes["expires_at"] != key.expires_at:
        changed["expiry_warned_at"] = None  # its people hear of the new end as well
    for field_name, value in changed.items():
        setattr(key, field_name, value)
    key.save(update_fields=list(changed))
    _record(
        key, "api_key.updated", acting_user, address, before=_told(before), after=_told(changes)
    )
    notify_change(key.organization_id)
    return key


@transaction.atomic
def rotate_api_key(
    key: ApiKey,
    *,
    overlap: timedelta = DEFAULT_OVERLAP,
    acting_user: User | None,
    address: str | None = None,
) -> tuple[ApiKey, str]:
    """A new secret for the same key; the one before works for ``overlap`` more.

    A secret that an earlier rotation still let work ends now.
    """
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise InvalidInput("An overlap lasts from 0 to 30 days.", param="overlap_seconds")
    _check_may_hold(key, key.scopes, acting_user)
    secret = keys.new_secret(settings.API_KEY_PEPPER, key.kind)
    now = timezone.now()
    # Of two rotations at once the second would forget a secret that nobody was shown.
    rotated = ApiKey.objects.filter(pk=key.pk, lookup=key.lookup, revoked_at=None).update(
        **_stored(secret),
        previous_lookup=key.lookup,
        previous_secret_hmac=bytes(key.secret_hmac),
        previous_expires_at=now + overlap,
        rotated_at=now,
    )
    if not rotated:
        raise AlreadyDone("This key was revoked or rotated meanwhile.")
    before = {"last_four": key.last_four}
    key.refresh_from_db()
    after = {"last_four": key.last_four, "overlap_seconds": int(overlap.total_seconds())}
    _record(key, "api_key.rotated", acting_user, address, before=before, after=after)
    notify_change(key.organization_id)
    return key, secret.text


@transaction.atomic
def set_api_key_suspended(
    key: ApiKey,
    suspended: bool,
    *,
    reason: str = "",
    acting_user: User | None,
    address: str | None = None,
) -> ApiKey:
    """Refuse the key until it is restored."""
    before = {"suspended": key.suspended_at is not None, "reason": key.suspended_reason}
    key.suspended_at = timezone.now() if suspended else None
    key.suspended_reason = reason[:200] if suspended else ""
    key.save(update_fields=["suspended_at", "suspended_reason"])
    action = "api_key.suspended" if suspended else "api_key.restored"
    after = {"suspended": suspended, "reason": key.suspended_reason}
    _record(key, action, acting_user, address, before=before, after=after)
    notify_change(key.organization_id)
    return key


@transaction.atomic
def revoke_api_key(key: ApiKey, *, acting_user: User | None, address: str | None = None) -> ApiKey:
    """Revoke now; every gateway refuses the key within a second. Twice is once."""
    revoked = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())
    key.refresh_from_db()
    if revoked:
        before = {"name": key.name, "last_four": key.last_four}
        _record(key, "api_key.revoked", acting_user, address, before=before)
    notify_change(key.organization_id)
    return key


def touch_api_keys(last_used: Mapping[int, datetime]) -> int:
    """Move ``last_used_at`` of the keys (by primary key) forward; returns how many moved.

    To the minute: a busy key moves once in ``TOUCH_EVERY_S``, not with every batch of usage.
    A row that another transaction holds is skipped: that one is touching it too, or
    changing something that matters more than this moment.
    """
    if not last_used:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE tenants_apikey SET last_used_at = moved.at
            FROM (
                SELECT key.id, used.at
                FROM unnest(%s::bigint[], %s::timestamptz[]) AS used(id, at)
                JOIN tenants_apikey AS key ON key.id = used.id
                WHERE key.last_used_at IS NULL
                OR key.last_used_at < used.at - make_interval(secs => %s)
                FOR NO KEY UPDATE OF key SKIP LOCKED
            ) AS moved
            WHERE tenants_apikey.id = moved.id
            """,
            [list(last_used), list(last_used.values()), TOUCH_EVERY_S],
        )
        return cursor.rowcount


def _checked_terms(kind: str, terms: KeyTerms) -> dict[str, Any]:
    if terms.expires_at is not None and terms.expires_at <= timezone.now():
        raise InvalidInput("The expiry must lie in the future.", param="expires_at")
    known = permissions.ALL if kind == ApiKey.Kind.ADMIN else permissions.KEY_SCOPES
    if unknown := sorted(set(terms.scopes) - known):
        raise InvalidInput(
            f"Unknown scopes: {', '.join(unknown)[:200]}. Known are {', '.join(sorted(known))}.",
            param="scopes",
        )
    if unknown := sorted(set(terms.limits) - set(LIMIT_NAMES)):
        raise InvalidInput("There is no such limit.", param=unknown[0])
    return {
        "scopes": sorted(set(terms.scopes)),
        "allowed_models": checked_model_names(list(terms.allowed_models), "allowed_models"),
        "allowed_networks": _checked_networks(terms.allowed_networks),
        "expires_at": terms.expires_at,
        **{name: checked_limit(terms.limits.get(name), name) for name in LIMIT_NAMES},
    }


def _checked_networks(given: tuple[str, ...]) -> list[str]:
    if len(given) > networks.MOST_NETWORKS:
        raise InvalidInput(f"At most {networks.MOST_NETWORKS} networks.", param="allowed_networks")
    try:
        return [str(networks.parse_network(text)) for text in given]
    except ValueError as error:
        raise InvalidInput(
            f"Give addresses or networks as 203.0.113.0/24: {str(error)[:100]}.",
            param="allowed_networks",
        ) from error


def _told(values: dict[str, Any]) -> dict[str, Any]:
    """For the audit trail: what is set, in JSON's types."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in values.items()
        if value not in (None, [], "")
    }


def _record(
    key: ApiKey,
    action: str,
    acting_user: User | None,
    address: str | None,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    project = key.project.public_id if key.project else ""
    audit.record_event(
        acting_user=acting_user,
        action=action,
        object_type="api_key",
        object_id=key.public_id,
        organization=key.organization,
        project=project,
        before=before,
        after=after,
        address=address,
    )
