"""API keys that are about to expire: their people are told once, a week before."""

from __future__ import annotations

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from tenants import audit, jobs, mail, selectors, webhooks
from tenants.jobs import HeldJob
from tenants.models import ApiKey, Job, Membership, Role, User

KEY_EXPIRY_MAIL = "mail.key_expiry"
_KEYS_AT_ONCE = 500
_MOST_TOLD = 20


def warn_expiring_keys() -> int:
    """Enqueue the mails of keys that nobody was told about; returns how many keys. Everybody's,
    so only for staff's scope."""
    expiring = selectors.key_states(timezone.now())["expiring"]
    keys = ApiKey.objects.filter(expiring, expiry_warned_at=None)
    found = keys.select_related("organization", "project", "created_by").defer("secret_hmac")
    return sum(_warn(key) for key in found.order_by("expires_at", "pk")[:_KEYS_AT_ONCE])


@transaction.atomic
def _warn(key: ApiKey) -> bool:
    # Of two looks at once, one finds it unwarned.
    if not ApiKey.objects.filter(pk=key.pk, expiry_warned_at=None).update(
        expiry_warned_at=timezone.now()
    ):
        return False
    expires_at = key.expires_at and int(key.expires_at.timestamp())
    data = {"id": key.public_id, "expires_at": expires_at}
    webhooks.tell(key.organization, "api_key.expiring", data, project=key.project_id)
    people = _people_of(key)[:_MOST_TOLD]
    audit.record_event(
        acting_user=None,
        action="api_key.expiry_warned",
        object_type="api_key",
        object_id=key.public_id,
        organization=key.organization,
        project=key.project.public_id if key.project else "",
        after={"told": [user.public_id for user in people]},
    )
    for user in people:
        jobs.enqueue(
            KEY_EXPIRY_MAIL,
            f"{key.public_id}:{user.public_id}:{key.expires_at:%Y%m%dT%H%M%S}",
            organization=key.organization,
            project=key.project,
            payload={"key": key.pk, "user": user.pk},
            priority=Job.Priority.URGENT,
            max_attempts=mail.ATTEMPTS,
        )
    return True


def _people_of(key: ApiKey) -> QuerySet[User]:
    """Whoever made a project's key while they are a member; for the others, who manages them."""
    members = Membership.objects.filter(organization=key.organization_id)
    told = members.filter(role__in=(Role.OWNER, Role.ADMIN))
    if key.kind == ApiKey.Kind.PROJECT and key.created_by_id is not None:
        creator = members.filter(user=key.created_by_id)
        told = creator if creator.exists() else told
    return User.objects.filter(pk__in=told.values("user"), is_active=True).order_by("pk")


_WARNING = """\
The API key "{name}" (sk-…{last_four}) of {organization} expires on {until:%d %B %Y at %H:%M} UTC.
Requests with it will be refused from then on.

Give it a later date, rotate it or make another one:
{link}
"""


def deliver_warning(job: HeldJob) -> None:
    """Nothing, if the key was given another date, revoked, or the person has left meanwhile."""
    key = ApiKey.objects.select_related("organization").filter(pk=job.payload["key"]).first()
    membership = (
        Membership.objects.select_related("user")
        .filter(organization=job.organization, user=job.payload["user"])
        .first()
    )
    if key is None or membership is None or key.expiry_warned_at is None or not key.is_live:
        return
    text = _WARNING.format(
        name=key.name,
        last_four=key.last_four,
        organization=key.organization.name,
        until=key.expires_at,
        link=mail.key_link(key),
    )
    subject = f'The API key "{key.name}" expires soon'
    mail.deliver(job, subject, text, to=membership.user.email)
