"""The button that ends a staff member's look at an organization."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST


@require_POST
@login_required
def end(request: HttpRequest) -> HttpResponse:
    """The middleware has ended it; a second press finds nothing to end, and says the same."""
    messages.success(request, _("You no longer look at the organization."))
    return redirect("admin:tenants_organization_changelist")
