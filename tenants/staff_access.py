"""What staff looked at: a page that shows a tenant's data leaves an audit event.

One for each member of staff, object and hour, so that a trail stays readable; a list
counts as one object. Members find the events of their organization in its own trail.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import connection, models, transaction
from django.http import HttpRequest
from django.utils import timezone

from tenants import audit
from tenants.models import AuditEvent, Organization, User

AGAIN_AFTER = timedelta(hours=1)
ACTION = "staff.viewed"
# Any number: the lock under which one person's views are counted.
_LOCK = 7_302_115


def organization_of(obj: models.Model) -> Organization | None:
    if isinstance(obj, Organization):
        return obj
    organization = getattr(obj, "organization", None)
    return organization if isinstance(organization, Organization) else None


def shows_tenants(model: type[models.Model]) -> bool:
    """Whether a page of this model shows what belongs to an organization or a person."""
    return model in (Organization, User) or any(
        field.name == "organization" for field in model._meta.concrete_fields
    )


def record_object(request: HttpRequest, obj: models.Model) -> None:
    """Staff opened the page of one object."""
    if shows_tenants(type(obj)):
        identifier = str(getattr(obj, "public_id", obj.pk))
        _record(request, str(obj._meta.model_name), identifier, organization_of(obj))


def record_list(request: HttpRequest, model: type[models.Model]) -> None:
    """Staff opened a list, of one organization if it is filtered so."""
    if not shows_tenants(model):
        return
    chosen = request.GET.get("organization__id__exact", "")
    organization = None
    if chosen.isascii() and chosen.isdigit() and len(chosen) < 19:
        organization = Organization.objects.filter(pk=int(chosen)).first()
    _record(request, f"{model._meta.model_name}_list", "list", organization)


def _record(
    request: HttpRequest, object_type: str, object_id: str, organization: Organization | None
) -> None:
    """Before the page is sent: what cannot be recorded is not shown."""
    assert isinstance(request.user, User)
    with transaction.atomic():
        with connection.cursor() as cursor:
            # Two tabs at once are one view.
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_LOCK, request.user.pk % 2**31])
        seen = AuditEvent.objects.filter(
            organization=organization,
            action=ACTION,
            at__gt=timezone.now() - AGAIN_AFTER,
            acting_user=request.user,
            object_type=object_type,
            object_id=object_id,
        )
        if seen.exists():
            return
        audit.record_event(
            acting_user=request.user,
            action=ACTION,
            object_type=object_type,
            object_id=object_id,
            organization=organization,
            address=request.META.get("REMOTE_ADDR") or None,
        )
