"""Announcements: which ones a person sees now, and their word that one was read."""

from __future__ import annotations

from django.db.models import Q, QuerySet
from django.utils import timezone

from tenants.errors import NotFound
from tenants.models import Announcement, AnnouncementDismissal, Organization, User

# More would push the page out of sight; the newest are the ones to know of.
MOST_SHOWN = 3


def get_announcements(organization: Organization, user: User) -> list[Announcement]:
    """Those for this organization's plan that hold now and that the person did not dismiss."""
    seen = AnnouncementDismissal.objects.filter(user=user).values("announcement")
    return list(_current(organization).exclude(is_dismissible=True, pk__in=seen)[:MOST_SHOWN])


def dismiss_announcement(organization: Organization, number: int, *, acting_user: User) -> None:
    """Show it to this person no more. A second time changes nothing.

    Raises NotFound for one that the organization is not told, or that has to stay.
    """
    found = _current(organization).filter(pk=number, is_dismissible=True).first()
    if found is None:
        raise NotFound("No such announcement.")
    AnnouncementDismissal.objects.bulk_create(
        [AnnouncementDismissal(announcement=found, user=acting_user)], ignore_conflicts=True
    )


def _current(organization: Organization) -> QuerySet[Announcement]:
    now = timezone.now()
    return Announcement.objects.filter(
        Q(plan=None) | Q(plan=organization.plan_id),
        Q(ends_at=None) | Q(ends_at__gt=now),
        starts_at__lte=now,
    )
