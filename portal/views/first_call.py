"""The first call of a key: waited for, and shown as soon as it is counted."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from billing import selectors as billing
from inference import selectors as inference
from portal.key_status import status_of
from portal.pages import organization_page, render_page
from portal.views.keys import access_key
from tenants import selectors
from tenants.models import Membership

# What the page's script asks for, again and again: the part that changes.
PART = "part"


@require_safe
@organization_page("organization.read")
def show_first_call(request: HttpRequest, membership: Membership, key_id: str) -> HttpResponse:
    key = access_key(membership, key_id)
    context = {
        "key": key,
        "is_first_key": selectors.is_first_key(key),
        "call": billing.get_first_request(key),
        "status": status_of(key, timezone.now()),
        "organization": membership.organization,
        "membership": membership,
    }
    if request.headers.get("X-Requested-With") == PART:
        return render(request, "portal/_first_call.html", context)
    context["model"] = inference.get_example_chat_model()
    return render_page(request, membership, "portal/first_call.html", context, tab="keys")
