"""How we talk to identity providers, whose addresses tenants chose."""

from __future__ import annotations

from typing import Any

import requests
from django.conf import settings

from tenants.outbound import OutboundSession


class ProviderSession(OutboundSession):
    """By https, whatever OUTBOUND_PORTS says: secrets and tokens go this way. Only inside of
    private networks that the operator named, http is the operator's choice."""

    def request(self, method: str, url: str, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        if not url.startswith("https://") and not settings.OUTBOUND_PRIVATE_NETWORKS:
            raise requests.exceptions.InvalidSchema("Identity providers are reached by https.")
        return super().request(method, url, **kwargs)
