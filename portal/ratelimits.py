"""How often each page may be posted: every number and its reason, in this file.

django-ratelimit counts (fixed windows in Redis); allauth's own limits are off
for these pages (``ACCOUNT_RATE_LIMITS`` in the settings), so that one mechanism
answers for a page. Only POSTs count. When Redis is down a page stays usable and
says so in the log: locking everybody out of their keys would be the worse fault.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django_ratelimit.core import get_usage
from redis.exceptions import RedisError

from portal.views import errors
from tenants.addresses import rate_limit_group

log = logging.getLogger("portal.ratelimits")

View = Callable[..., HttpResponseBase]


@dataclass(frozen=True)
class Limit:
    by: str  # "address", "email" or "user"
    rate: str  # django-ratelimit's notation: count/period
    reason: str


LIMITS: dict[str, tuple[Limit, ...]] = {
    "log-in": (
        Limit("address", "30/5m", "An office shares an address; a guesser gets no more."),
        Limit(
            "email",
            "10/5m",
            "A person mistypes a few times; a lock-out by others ends soon.",
        ),
    ),
    "sign-up": (
        Limit(
            "address",
            "10/1h",
            "A class may sign up together; a robot makes few accounts.",
        ),
        Limit("email", "5/1h", "Every try for a known address may send it a mail."),
    ),
    "password-reset": (
        Limit("address", "10/1h", "Each one may send a mail."),
        Limit(
            "email",
            "3/1h",
            "Three mails an hour find their reader; more are harassment.",
        ),
    ),
    "password-reset-key": (
        Limit(
            "address",
            "20/1h",
            "The key in the link is long; this only bounds the noise.",
        ),
    ),
    "confirm-email": (
        Limit(
            "address",
            "20/1h",
            "The key in the link is long; this only bounds the noise.",
        ),
    ),
    "password-change": (
        Limit(
            "user",
            "10/5m",
            "The old password is asked for; a stolen session may not guess it.",
        ),
    ),
    "organization-create": (
        Limit(
            "user",
            "10/1h",
            "Nobody starts more by hand, and each one brings fresh limits.",
        ),
    ),
    "key-create": (
        Limit(
            "user",
            "60/1h",
            "Generous for a person; a loop belongs to the management API.",
        ),
    ),
}


def limited(page: str, view: View) -> View:
    """``view`` behind the limits of ``page``; beyond one it answers our 429 page."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        retry_after_s = _seconds_to_wait(page, request) if request.method == "POST" else None
        if retry_after_s is not None:
            return errors.too_many_requests(request, retry_after_s)
        return view(request, *args, **kwargs)

    return guarded


def _seconds_to_wait(page: str, request: HttpRequest) -> int | None:
    """Count this request in all limits of the page; the longest wait, or None if admitted."""
    waits = []
    for limit in LIMITS[page]:
        value = _value(limit.by, request)
        if not value:
            continue
        try:
            usage = get_usage(
                request,
                group=f"portal.{page}.{limit.by}",
                key=lambda group, request, value=value: value,
                rate=limit.rate,
                increment=True,
            )
        except RedisError:
            log.warning("rate limit not counted", extra={"page": page}, exc_info=True)
            return None
        if usage and usage["should_limit"]:
            waits.append(max(1, usage["time_left"]))
    return max(waits, default=None)


def _value(by: str, request: HttpRequest) -> str:
    if by == "address":
        return rate_limit_group(request.META.get("REMOTE_ADDR"))
    if by == "user":
        return str(request.user.pk or "")
    # The log-in form calls it "login", the others "email".
    return (request.POST.get("login") or request.POST.get("email") or "").strip().lower()[:254]
