"""What tests of the staff admin's pages share: addresses of pages, and looks on record."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from tenants.models import AuditEvent


def url(model: Any, page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def viewed(**filters: Any) -> int:
    return AuditEvent.objects.filter(action="staff.viewed", **filters).count()
