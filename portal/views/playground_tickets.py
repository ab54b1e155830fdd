"""Tickets for the portal's own pages: a logged-in member's way onto the WebSocket, without a key.

Only a session gets one, with its CSRF token, for this very origin; what runs by it counts for the
project that was named, as with a key that the member could make there.
"""

from __future__ import annotations

import logging
from typing import Annotated

import msgspec
import redis
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_POST
from msgspec import Meta

from portal.pages import organization_page, user_of
from tenants import access, tickets
from tenants.errors import TenantError
from tenants.models import Membership, User
from tenants.people import PERMISSION, credentials_of_member

log = logging.getLogger(__name__)

MOST_BODY_BYTES = 4_096


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    project: Annotated[str, Meta(min_length=1, max_length=64)]


_decode = msgspec.json.Decoder(_Asked).decode


@require_POST
@organization_page("project.read")
def issue_ticket(request: HttpRequest, membership: Membership) -> HttpResponse:
    """``{"project": "proj_…"}`` gives what ``POST /v1/stream/tickets`` gives."""
    try:
        asked = _decode(request.read(MOST_BODY_BYTES + 1)[:MOST_BODY_BYTES])
        project = access.access_project(membership.organization, asked.project)
        access.check_permission(membership, PERMISSION, project)
        held = credentials_of_member(membership, project)
        ticket = tickets.new_ticket(held, _origin_of(request), None)
        _store(ticket, user_of(request), membership)
    except msgspec.MsgspecError as error:
        return _refused(400, str(error)[:200], "invalid_type")
    except TenantError as error:
        return _refused(error.status, str(error), error.code)
    except redis.RedisError:
        log.warning("playground.no_ticket", exc_info=True)
        return _refused(
            503, "Tickets cannot be issued right now. Try again shortly.", "unavailable"
        )
    return HttpResponse(ticket.answer(), content_type="application/json")


def _origin_of(request: HttpRequest) -> str:
    """As the browser says it of this page; its Host was checked by Django."""
    return f"{request.scheme}://{request.get_host()}".lower()


def _store(ticket: tickets.Issued, user: User, membership: Membership) -> None:
    counter, counted_s = tickets.counter_of(f"u{user.pk}:{membership.organization_id}")
    client = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=settings.REDIS_TIMEOUT_S,
        socket_connect_timeout=settings.REDIS_TIMEOUT_S,
    )
    with client, client.pipeline(transaction=False) as pipe:
        pipe.incr(counter)
        pipe.expire(counter, counted_s)
        tickets.check_count(pipe.execute()[0])
        client.set(ticket.key, ticket.content, ex=ticket.ttl_s)


def _refused(status: int, message: str, code: str) -> HttpResponse:
    return JsonResponse({"error": {"message": message, "code": code}}, status=status)
