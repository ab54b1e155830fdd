"""What happens to accounts, in the audit trail: log-ins, passwords, factors, sessions.

An event stands in each organization that the person belongs to, because each of them
answers for its own trail, and in the platform's own where there is none. Receivers of
allauth's signals write the events: they observe, nothing depends on them.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from allauth.account import signals as account
from allauth.mfa import signals as mfa
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.http import HttpRequest

from tenants import access, audit, scope
from tenants.models import IdentityProvider, Organization, User

# One log-in must not write without bound; nobody works for more.
MOST_ORGANIZATIONS = 20
ADDED = {
    Authenticator.Type.TOTP: "second_factor.added",
    Authenticator.Type.WEBAUTHN: "passkey.added",
    Authenticator.Type.RECOVERY_CODES: "recovery_codes.created",
}
REMOVED = {
    Authenticator.Type.TOTP: "second_factor.removed",
    Authenticator.Type.WEBAUTHN: "passkey.removed",
    Authenticator.Type.RECOVERY_CODES: "recovery_codes.removed",
}


def record(
    request: HttpRequest,
    user: User,
    action: str,
    *,
    after: dict[str, Any] | None = None,
    before: dict[str, Any] | None = None,
    target: str = "",
    by_themselves: bool = True,
) -> None:
    """One event in each of the user's organizations; ``target`` is a session's id."""
    event = {
        "acting_user": user if by_themselves else None,
        "action": action,
        "object_type": "session" if target else "user",
        "object_id": target or user.public_id,
        "before": before,
        "after": after,
        "address": _address(request),
    }
    _write(_organizations(user.pk), event)


def record_failed_login(request: HttpRequest, email: str) -> None:
    """A wrong password. Of an unknown address only a keyed digest is kept.

    It tells tries at the same address apart from others without collecting the
    addresses of strangers, or passwords typed into the wrong field. Known and unknown
    addresses ask the database the same questions, so that time tells little.
    """
    email = email.strip().lower()
    user = User.objects.filter(email=email).first()
    event = {
        "acting_user": None,
        "action": "login.failed",
        "object_type": "user",
        "object_id": user.public_id if user is not None else "",
        "after": {} if user is not None else {"address_digest": _digest(email)},
        "address": _address(request),
    }
    _write(_organizations(user.pk if user is not None else 0), event)


def record_refused_provider(request: HttpRequest, provider: IdentityProvider, reason: str) -> None:
    """A log-in by an organization's provider that led to nothing, in its trail."""
    with scope.for_organization(provider.organization_id):
        organization = Organization.objects.get(pk=provider.organization_id)
    event = {
        "acting_user": None,
        "action": "login.failed",
        "object_type": "identity_provider",
        "object_id": provider.public_id,
        "after": {"reason": reason[:200]},
        "address": _address(request),
    }
    _write([organization], event)


def record_refused_social(
    request: HttpRequest, handle: str, reason: str, user: User | None
) -> None:
    """A log-in by the platform's provider that led to nothing, in the trails of its person."""
    event = {
        "acting_user": None,
        "action": "login.failed",
        "object_type": "user",
        "object_id": user.public_id if user is not None else "",
        "after": {"method": handle, "reason": reason[:200]},
        "address": _address(request),
    }
    _write(_organizations(user.pk if user is not None else 0), event)


@transaction.atomic
def _write(organizations: list[Organization], event: dict[str, Any]) -> None:
    if not organizations:
        audit.record_event(**event)
    # Each chain is locked until the end: in one order, so that no two wait in a circle.
    for organization in sorted(organizations, key=lambda each: each.pk):
        with scope.for_organization(organization.pk):
            audit.record_event(organization=organization, **event)


def _organizations(user: int) -> list[Organization]:
    with scope.for_user(user):
        memberships = access.get_memberships(User(pk=user))[:MOST_ORGANIZATIONS]
        return [membership.organization for membership in memberships]


def _address(request: HttpRequest | None) -> str | None:
    return (request.META.get("REMOTE_ADDR") or None) if request is not None else None


def _digest(email: str) -> str:
    key = hashlib.sha256(b"audit-address:" + settings.SECRET_KEY.encode()).digest()
    return hmac.new(key, email.encode(), "sha256").hexdigest()[:16]


# --- Receivers ------------------------------------------------------------------------


def connect() -> None:
    """Called once, when the portal is ready."""
    account.user_logged_in.connect(_logged_in, dispatch_uid="audit.logged_in")
    user_logged_out.connect(_logged_out, dispatch_uid="audit.logged_out")
    account.password_changed.connect(_password_changed, dispatch_uid="audit.password_changed")
    account.password_set.connect(_password_set, dispatch_uid="audit.password_set")
    account.password_reset.connect(_password_reset, dispatch_uid="audit.password_reset")
    account.email_changed.connect(_email_changed, dispatch_uid="audit.email_changed")
    account.email_added.connect(_email_added, dispatch_uid="audit.email_added")
    account.email_removed.connect(_email_removed, dispatch_uid="audit.email_removed")
    mfa.authenticator_added.connect(_factor_added, dispatch_uid="audit.factor_added")
    mfa.authenticator_removed.connect(_factor_removed, dispatch_uid="audit.factor_removed")
    mfa.authenticator_reset.connect(_factor_added, dispatch_uid="audit.factor_reset")
    mfa.authentication_failed.connect(_factor_failed, dispatch_uid="audit.factor_failed")


def _logged_in(sender: Any, request: HttpRequest, user: User, **kwargs: Any) -> None:
    sociallogin = kwargs.get("sociallogin")
    method = sociallogin.account.provider if sociallogin is not None else "local"
    record(request, user, "login.succeeded", after={"method": method})


def _logged_out(sender: Any, request: HttpRequest, user: User | None, **kwargs: Any) -> None:
    if user is not None:
        record(request, user, "logout.succeeded")


def _password_changed(sender: Any, request: HttpRequest, user: User, **kwargs: Any) -> None:
    record(request, user, "password.changed")


def _password_set(sender: Any, request: HttpRequest, user: User, **kwargs: Any) -> None:
    record(request, user, "password.set")


def _password_reset(sender: Any, request: HttpRequest, user: User, **kwargs: Any) -> None:
    record(request, user, "password.reset")


def _email_changed(
    sender: Any,
    request: HttpRequest,
    user: User,
    from_email_address: Any,
    to_email_address: Any,
    **kwargs: Any,
) -> None:
    before = {"email": from_email_address.email} if from_email_address else {}
    record(request, user, "email.changed", before=before, after={"email": to_email_address.email})


def _email_added(
    sender: Any, request: HttpRequest, user: User, email_address: Any, **kwargs: Any
) -> None:
    record(request, user, "email.added", after={"email": email_address.email})


def _email_removed(
    sender: Any, request: HttpRequest, user: User, email_address: Any, **kwargs: Any
) -> None:
    record(request, user, "email.removed", before={"email": email_address.email})


def _factor_added(
    sender: Any, request: HttpRequest, user: User, authenticator: Authenticator, **kwargs: Any
) -> None:
    record(request, user, ADDED[authenticator.type], after={"name": str(authenticator)})


def _factor_removed(
    sender: Any, request: HttpRequest, user: User, authenticator: Authenticator, **kwargs: Any
) -> None:
    record(request, user, REMOVED[authenticator.type], before={"name": str(authenticator)})


def _factor_failed(
    sender: Any, request: HttpRequest, user: User, authenticator: Authenticator, **kwargs: Any
) -> None:
    kind = {"type": str(authenticator.type)}
    # Whoever typed a wrong code is not known to be the user.
    record(request, user, "second_factor.failed", after=kind, by_themselves=False)
