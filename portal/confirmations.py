"""Pages that ask before something is done that hurts; the GET changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from portal.pages import render_page
from tenants.errors import TenantError
from tenants.models import Membership

_CANCEL = gettext_lazy("Cancel")


@dataclass(frozen=True)
class Confirmation:
    title: str  # a question that names the object
    text: str  # what will happen, and whether it can be undone
    button: str
    back: str  # address
    facts: dict[str, Any] = field(default_factory=dict)
    is_dangerous: bool = True
    keep: str | Promise = _CANCEL
    hidden: dict[str, str] = field(default_factory=dict)  # what the form carries besides


def ask(
    request: HttpRequest,
    membership: Membership,
    confirmation: Confirmation,
    *,
    tab: str,
    form: forms.Form | None = None,
) -> HttpResponse:
    context = {"confirmation": confirmation, "form": form}
    status = 400 if form is not None and form.errors else 200
    return render_page(request, membership, "portal/confirm.html", context, tab=tab, status=status)


def refuse(request: HttpRequest, error: TenantError, back: str, *args: str) -> HttpResponse:
    """Back to a page, with a room's reason as a message."""
    messages.error(request, error.message)
    return redirect(back, *args)
