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

from allauth.account.internal.stagekit import LOGIN_SESSION_KEY
from django.http import HttpRequest, HttpResponseBase
from django_ratelimit.core import get_usage
from redis.exceptions import RedisError

from portal.views import errors
from tenants.addresses import rate_limit_group

log = logging.getLogger("portal.ratelimits")

View = Callable[..., HttpResponseBase]


@dataclass(frozen=True)
class Limit:
    by: str  # "address", "email", "user", or "person": also one who is half logged in
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
    "password-confirm": (Limit("user", "10/5m", "As for the password's change."),),
    "second-factor": (
        Limit("address", "30/5m", "An office shares an address."),
        Limit("person", "5/5m", "A person mistypes a code now and then."),
        Limit("person", "50/1d", "Three codes of a million are right at a time: 1 in 6,000 a day."),
    ),
    "find": (Limit("user", "240/1m", "A fast typist sends a few a second; a scan is the API's."),),
    "docs-search": (
        Limit("address", "240/1m", "It reads a few hundred KB of memory; an office shares it."),
    ),
    "profile": (Limit("user", "60/1h", "A person changes a name or a zone; a loop does not."),),
    "second-factor-change": (
        Limit("user", "30/1h", "Setting one up takes a few tries; each change sends a mail."),
    ),
    "second-factor-rule": (
        Limit("user", "20/1h", "It shuts members out; nobody changes it often."),
    ),
    "cache-forget": (
        Limit("user", "20/1h", "It costs the organization its cache; nobody needs it often."),
    ),
    "passkey-log-in": (
        Limit("address", "30/5m", "There is nothing to guess; this bounds the noise."),
    ),
    "email-change": (
        Limit("user", "20/1h", "Each one may send a mail to an address of the user's choice."),
    ),
    "sessions": (
        Limit("user", "60/1h", "A person ends a few; each one is written to the audit trail."),
    ),
    "log-out": (Limit("address", "120/5m", "Each one is written to the audit trail."),),
    "single-sign-on": (
        Limit("address", "30/5m", "Each one may fetch a provider's metadata; an office shares it."),
    ),
    "single-sign-on-return": (
        Limit("address", "60/5m", "Each one may ask a provider for a token; an office shares it."),
    ),
    "single-sign-on-change": (
        Limit("user", "30/1h", "Getting a provider to work takes some tries."),
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
    "object-create": (Limit("user", "120/1h", "Projects, groups, roles: more by hand is a loop."),),
    "file-upload": (
        Limit("user", "60/1h", "Each may be 200 MB; who sends more files has the API."),
    ),
    "webhook-change": (
        Limit("user", "120/1h", "Each may have us resolve a name of the user's choice."),
    ),
    "webhook-send": (
        Limit("user", "120/1h", "Each has us send a request to an address of the user's choice."),
    ),
    "invite": (
        Limit("user", "100/1h", "Each one sends a mail to an address of the user's choice."),
    ),
    "invitation-link": (
        Limit(
            "address",
            "60/1h",
            "The secret in the link is long; this only bounds the noise. A class may join together.",
        ),
    ),
    "invitation": (
        Limit("address", "60/1h", "As for the link; taking one up writes to the audit trail."),
    ),
}


def limited(page: str, view: View, *, counts_reading: bool = False) -> View:
    """``view`` behind the limits of ``page``; beyond one it answers our 429 page.

    ``counts_reading`` is for addresses at which a GET already does something.
    """

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        counts = counts_reading or request.method == "POST"
        retry_after_s = _seconds_to_wait(page, request) if counts else None
        if retry_after_s is not None:
            return errors.too_many_requests(request, retry_after_s)
        return view(request, *args, **kwargs)

    guarded.limited_as = page  # type: ignore[attr-defined]
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
                group=f"portal.{page}.{limit.by}.{limit.rate}",
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
    if by == "person":
        # Who gave the right password and owes the second factor is in allauth's session entry.
        half_in = request.session.get(LOGIN_SESSION_KEY) or {}
        return str(request.user.pk or half_in.get("user_pk") or "")
    # The log-in form calls it "login", the others "email".
    return (request.POST.get("login") or request.POST.get("email") or "").strip().lower()[:254]
