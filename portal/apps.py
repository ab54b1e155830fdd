from __future__ import annotations

from django.apps import AppConfig


class PortalConfig(AppConfig):
    name = "portal"

    def ready(self) -> None:
        # It imports models, which are there only now.
        from portal import account_audit

        account_audit.connect()
