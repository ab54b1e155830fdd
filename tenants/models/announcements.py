"""What staff tell everybody, or everybody of one plan, on the portal's pages."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from tenants.models.people import User
from tenants.models.plans import Plan


class Announcement(models.Model):
    """A sentence or two above the pages of organizations, from one moment to another."""

    class Level(models.TextChoices):
        INFO = "info", "Information"
        GOOD = "good", "Good news"
        WARN = "warn", "Warning"
        BAD = "bad", "Disruption"

    title = models.CharField(max_length=80)
    text = models.CharField(max_length=400)
    level = models.CharField(max_length=4, choices=Level.choices, default=Level.INFO)
    plan = models.ForeignKey(
        Plan,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        help_text="Told to organizations on this plan; empty tells all.",
    )
    starts_at = models.DateTimeField("From", default=timezone.now)
    ends_at = models.DateTimeField(
        "Until", null=True, blank=True, help_text="Empty: until it is deleted."
    )
    is_dismissible = models.BooleanField(
        "May be dismissed", default=True, help_text="By each person for themselves."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["-starts_at", "-pk"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(ends_at=None) | models.Q(ends_at__gt=models.F("starts_at")),
                name="tenants_announcement_ends_after_it_starts",
                violation_error_message="It must end after it starts.",
            )
        ]

    def __str__(self) -> str:
        return self.title


class AnnouncementDismissal(models.Model):
    """One person has read one announcement. Of no tenant: it holds in all their organizations."""

    announcement = models.ForeignKey(
        Announcement, on_delete=models.CASCADE, related_name="dismissals"
    )
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["announcement", "user"], name="tenants_announcement_dismissed_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.user} dismissed {self.announcement_id}"
