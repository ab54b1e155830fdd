"""In which language and on whose clock pages are written.

The profile decides; where it says nothing, the browser does: its ``Accept-Language``, and
its time zone, which the script leaves in a cookie. Programs are always answered in English
and in UTC, and so are staff, whose pages are not translated.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable
from functools import cache

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone, translation
from django.utils.cache import patch_vary_headers

ZONE_COOKIE = "zone"
# Below these nobody reads a page of the portal.
UNTRANSLATED = ("/v1/", "/admin/", "/docs/", "/metrics", "/healthz", "/readyz", "/static/")

Handler = Callable[[HttpRequest], HttpResponse]


@cache
def time_zones() -> frozenset[str]:
    """The names that may be chosen: regions and UTC, without the historical aliases."""
    names = zoneinfo.available_timezones()
    return frozenset(name for name in names if "/" in name and not name.startswith("Etc/")) | {
        "UTC"
    }


def languages() -> dict[str, str]:
    """Code → the language's own name."""
    return dict(settings.LANGUAGES)


class PreferencesMiddleware:
    """Activates both for one request; after the one that knows the user."""

    def __init__(self, get_response: Handler):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info.startswith(UNTRANSLATED):
            language, zone = settings.LANGUAGE_CODE, settings.TIME_ZONE
        else:
            language, zone = language_of(request), zone_of(request)
        with translation.override(language), timezone.override(zone):
            response = self.get_response(request)
            response.headers.setdefault("Content-Language", language)
            patch_vary_headers(response, ("Accept-Language",))
        return response


def language_of(request: HttpRequest) -> str:
    chosen = getattr(request.user, "language", "")
    if chosen in languages():
        return str(chosen)
    return translation.get_language_from_request(request)


def zone_of(request: HttpRequest) -> str:
    """A name that is no time zone (any cookie can be written by hand) means UTC."""
    chosen = getattr(request.user, "time_zone", "") or request.COOKIES.get(ZONE_COOKIE, "")
    return chosen if chosen in time_zones() else settings.TIME_ZONE
