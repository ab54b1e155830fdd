"""What a person says of themselves: how they are called, what pages speak, whose clock."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import translation
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from portal import account_audit
from portal.account_forms import ProfileForm
from portal.pages import user_of
from tenants import access


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
def profile(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    form = ProfileForm(request.POST or None, user=user)
    if request.method == "POST" and form.is_valid():
        before = {"name": user.name}
        user.change_profile(**form.cleaned_data)
        if before["name"] != user.name:
            after = {"name": user.name}
            account_audit.record(request, user, "profile.changed", before=before, after=after)
        # The answer is in the new language already.
        translation.activate(user.language or translation.get_language_from_request(request))
        messages.success(request, _("Your profile is saved."))
        return redirect("profile")
    context = {"form": form, "tab": "profile", "memberships": access.get_memberships(user)}
    return render(request, "portal/profile.html", context, status=400 if form.errors else 200)
