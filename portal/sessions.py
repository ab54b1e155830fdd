"""A person's log-ins: seen lately, listed, ended."""

from __future__ import annotations

import time
from collections.abc import Callable

from allauth.usersessions.internal.flows.sessions import end_sessions
from allauth.usersessions.models import UserSession
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext

from portal import account_audit
from tenants.errors import NotFound
from tenants.models import User

SEEN_AT = "seen_at"
# As exact as the list has to be; a write for each page would cost more than it tells.
SEEN_EVERY_S = 600


class SessionActivityMiddleware:
    """Notes now and then that a session is in use, and from where."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # The session knows by itself when it was noted: mostly this costs no query.
        seen_at = request.session.get(SEEN_AT, time.time())
        if time.time() - seen_at > SEEN_EVERY_S and request.user.is_authenticated:
            note(request)
        return self.get_response(request)


def note(request: HttpRequest) -> None:
    UserSession.objects.create_from_request(request)
    mark_seen(request)


def mark_seen(request: HttpRequest) -> None:
    request.session[SEEN_AT] = int(time.time())


def get_sessions(request: HttpRequest, user: User) -> list[UserSession]:
    """Live sessions, this one first, then by when they were last seen."""
    note(request)
    found: list[UserSession] = UserSession.objects.purge_and_list(user)
    found.sort(key=lambda session: session.last_seen_at, reverse=True)
    found.sort(key=lambda session: not session.is_current())
    return found


def end_session(request: HttpRequest, user: User, pk: int) -> None:
    """End one of the user's sessions; another's is absent."""
    session = UserSession.objects.filter(user=user, pk=pk).first()
    if session is None:
        raise NotFound(gettext("No such session."))
    _end(request, user, [session])


def end_other_sessions(request: HttpRequest, user: User) -> int:
    """End all but this one; how many there were."""
    others = [found for found in get_sessions(request, user) if not found.is_current()]
    _end(request, user, others)
    return len(others)


def _end(request: HttpRequest, user: User, ended: list[UserSession]) -> None:
    for session in ended:
        account_audit.record(
            request, user, "session.ended", after={"address": session.ip}, target=f"{session.pk}"
        )
    end_sessions(request, ended)
