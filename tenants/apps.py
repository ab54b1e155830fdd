from __future__ import annotations

from typing import Any, ClassVar

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class TenantsConfig(AppConfig):
    name = "tenants"
    web_grants: ClassVar = {
        "plan": "SELECT",
        "planmodellimit": "SELECT",
        "announcement": "SELECT",
        "announcementdismissal": "SELECT, INSERT",
        "auditevent": "SELECT, INSERT",
        "auditchain": "",
    }
    # Only the trigger, which has its owner's rights, moves a chain's head.
    staff_grants: ClassVar = {"auditchain": "SELECT"}

    def ready(self) -> None:
        post_migrate.connect(_apply_grants, dispatch_uid="tenants.isolation")


def _apply_grants(app_config: AppConfig, **_: Any) -> None:
    """Not in a migration: tables of other packages come and change with theirs."""
    from tenants import isolation

    isolation.apply_grants(app_config)
