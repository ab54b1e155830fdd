"""What every template sees."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from portal.impersonation import look_of

THEMES = ("light", "dark")


def platform(request: HttpRequest) -> dict[str, Any]:
    # The choice travels in a cookie, so that the first byte of the page has the right colours.
    chosen = request.COOKIES.get("theme", "")
    return {
        "engine_is_simulated": settings.ENGINE == "simulated",
        "sluice_url": settings.SLUICE_URL.rstrip("/"),
        "impersonation": look_of(request),
        "theme": chosen if chosen in THEMES else "",
        "signup_is_open": settings.SIGNUP_OPEN,
        "social_login_name": settings.SOCIAL_LOGIN_NAME,
        "time_zone": timezone.get_current_timezone_name(),
        # The language of examples that was chosen last; ``code_tabs`` takes what it knows.
        "code_language": request.COOKIES.get("code_language", ""),
    }
