"""Announcements: what organizations read above their pages; every change is audited."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.forms import Textarea
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display

from tenants.models import Announcement
from tenants.staff import AuditedAdmin


@admin.register(Announcement)
class AnnouncementAdmin(AuditedAdmin):
    list_display = ("title", "shown_level", "plan_name", "state", "starts_at", "ends_at", "read_by")
    list_select_related = ("plan",)
    list_filter = ("level", "plan")
    search_fields = ("title", "text")
    autocomplete_fields = ("plan",)
    fields = (
        "title", "text", "level", "plan", ("starts_at", "ends_at"), "is_dismissible",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Announcement]:
        return super().get_queryset(request).annotate(readers=Count("dismissals"))

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)
        widget = form.base_fields["text"].widget if "text" in form.base_fields else None
        if widget is not None:
            form.base_fields["text"].widget = Textarea({**widget.attrs, "rows": 3})
        return form

    @display(
        description="Level",
        ordering="level",
        label={
            "Information": "info",
            "Good news": "success",
            "Warning": "warning",
            "Disruption": "danger",
        },
    )
    def shown_level(self, announcement: Announcement) -> str:
        return announcement.get_level_display()

    @display(description="Told to", ordering="plan")
    def plan_name(self, announcement: Announcement) -> str:
        return f"Plan {announcement.plan}" if announcement.plan else "Everybody"

    @display(description="State", label={"Shown": "success", "Later": "info"})
    def state(self, announcement: Announcement) -> str:
        now = timezone.now()
        if announcement.starts_at > now:
            return "Later"
        return "Over" if announcement.ends_at and announcement.ends_at <= now else "Shown"

    @display(description="Dismissed by")
    def read_by(self, announcement: Any) -> str:
        return f"{announcement.readers:,}"
