"""Staff look at an organization's portal as its owner sees it, for a while, changing nothing.

The look stands in the staff member's session and is asked about again at every request:
whoever lost the permission looks no longer. Beginning, every page and the end are events
of the organization's own trail, written before a page is sent: what cannot be recorded
is not shown. That nothing changes is the door's part (``portal.impersonation``).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.sessions.backends.base import SessionBase
from django.db import transaction
from django.utils import timezone

from tenants import audit, scope
from tenants.errors import AccessDenied, InvalidInput
from tenants.models import Membership, Organization, Role, User

PERMISSION = "tenants.look_into_organization"
LASTS = timedelta(minutes=30)
SHORTEST_REASON = 8
_SESSION_KEY = "impersonation"


@dataclass(frozen=True)
class Look:
    """Whose portal a session looks at; ``until`` in Unix seconds."""

    organization: int
    public_id: str
    name: str
    user: int
    until: float

    @property
    def ends_at(self) -> datetime:
        return datetime.fromtimestamp(self.until, UTC)

    @property
    def is_over(self) -> bool:
        return timezone.now() >= self.ends_at


@transaction.atomic
def begin_look(
    session: SessionBase,
    organization: Organization,
    reason: str,
    *,
    acting_user: User,
    address: str | None = None,
) -> Look:
    """Let this session see the organization's pages for ``LASTS``; in a staff scope.

    Raises AccessDenied for somebody without the permission, and for an organization to
    which other staff belong: nobody looks over a colleague's shoulder.
    """
    if not may_look(acting_user):
        raise AccessDenied("Your account may not look at organizations' portals.")
    if len(reason.strip()) < SHORTEST_REASON:
        raise InvalidInput("Say why, in a few words.", param="reason")
    others = Membership.objects.filter(organization=organization, user__is_staff=True)
    if others.exclude(user=acting_user).exists():
        raise AccessDenied("Other staff belong to this organization; nobody looks at theirs.")
    until = timezone.now() + LASTS
    look = Look(
        organization.pk, organization.public_id, organization.name, acting_user.pk,
        until.timestamp(),
    )  # fmt: skip
    told = {"reason": reason.strip(), "until": until.isoformat(timespec="seconds")}
    _record(look, "staff.look_began", acting_user, address, after=told)
    session[_SESSION_KEY] = asdict(look)
    return look


def may_look(user: User) -> bool:
    return user.is_active and user.is_staff and user.has_perm(PERMISSION)


def get_look(session: SessionBase, user: Any) -> Look | None:
    """The session's look, whether it is over or not; another person's is none."""
    stored = session.get(_SESSION_KEY)
    if not stored or not isinstance(user, User) or stored["user"] != user.pk:
        return None
    return Look(**stored)


def end_look(
    session: SessionBase, look: Look, *, acting_user: User, address: str | None = None
) -> None:
    session.pop(_SESSION_KEY, None)
    how = "time was up" if look.is_over else "by hand"
    _record(look, "staff.look_ended", acting_user, address, after={"how": how})


def record_page(look: Look, path: str, *, acting_user: User, address: str | None = None) -> None:
    """Of every page that is asked for, whether it is shown in the end or not."""
    _record(look, "staff.looked", acting_user, address, after={"page": path[:300]})


def access_membership(look: Look, user: User) -> Membership:
    """As the organization's owner, in no table: what may be seen is everything."""
    with scope.for_organization(look.organization):
        organization = Organization.objects.select_related("plan").get(pk=look.organization)
    return Membership(organization=organization, user=user, role=Role.OWNER)


def _record(
    look: Look, action: str, user: User, address: str | None, *, after: dict[str, Any]
) -> None:
    # As staff, whatever page this is: the trail names no staff to members.
    with scope.for_staff(), transaction.atomic():
        audit.record_event(
            acting_user=user,
            action=action,
            object_type="organization",
            object_id=look.public_id,
            organization=Organization.objects.get(pk=look.organization),
            after=after,
            address=address,
        )
