"""What every template sees."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def platform(request: HttpRequest) -> dict[str, Any]:
    return {"engine_is_simulated": settings.ENGINE == "simulated", "sluice_url": settings.SLUICE_URL}
