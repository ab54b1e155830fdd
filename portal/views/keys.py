"""API keys: listed, created (their secret shown once), revoked."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_safe

from inference import selectors as inference
from portal.form_ids import new_key_form_id, read_key_form_id
from portal.forms import KeyForm
from portal.pages import address_of, organization_page, render_page, user_of
from tenants import access, actions, selectors
from tenants.errors import AlreadyDone, InvalidInput
from tenants.models import Membership

PAGE_SIZE = 50


@require_safe
@organization_page("usage.read")
def list_keys(request: HttpRequest, membership: Membership) -> HttpResponse:
    keys = selectors.get_api_keys(membership.organization)
    context = {
        "page": Paginator(keys, PAGE_SIZE).get_page(request.GET.get("page")),
        "now": timezone.now(),
    }
    return render_page(request, membership, "portal/keys.html", context, tab="keys")


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("key.create")
def create_key(request: HttpRequest, membership: Membership) -> HttpResponse:
    organization = membership.organization
    projects = selectors.get_projects(organization)
    if request.method == "POST":
        form = KeyForm(request.POST, projects=projects)
        if form.is_valid():
            return _create(request, membership, form)
    else:
        initial = {"form_id": new_key_form_id(user_of(request), organization)}
        form = KeyForm(projects=projects, initial=initial)
    status = 400 if form.errors else 200
    return render_page(
        request,
        membership,
        "portal/key_create.html",
        {"form": form},
        tab="keys",
        status=status,
    )


@sensitive_variables("secret")
def _create(request: HttpRequest, membership: Membership, form: KeyForm) -> HttpResponse:
    """The secret goes into this one response and nowhere else: no session, log, URL or message."""
    organization = membership.organization
    try:
        public_id = read_key_form_id(form.cleaned_data["form_id"], user_of(request), organization)
    except InvalidInput as error:
        messages.error(request, error.message)
        return redirect("key_create", organization.public_id)
    try:
        key, secret = actions.create_api_key(
            form.cleaned_data["project"],
            form.cleaned_data["name"],
            acting_user=user_of(request),
            expires_at=form.expires_at,
            public_id=public_id,
            address=address_of(request),
        )
    except AlreadyDone:
        messages.warning(
            request,
            "This form was sent twice. Its key exists, and its secret was shown with the first "
            "answer. If you did not copy it, revoke that key and create another.",
        )
        return redirect("keys", organization.public_id)
    context = {
        "key": key,
        "secret": secret,
        "model": inference.get_example_chat_model(),
    }
    return render_page(
        request, membership, "portal/key_created.html", context, tab="keys", status=201
    )


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("key.revoke")
def revoke_key(request: HttpRequest, membership: Membership, key_id: str) -> HttpResponse:
    key = access.access_api_key(membership.organization, key_id)
    if request.method == "POST":
        actions.revoke_api_key(key, acting_user=user_of(request), address=address_of(request))
        messages.success(request, f"“{key.name}” is revoked. Programs that use it are refused now.")
        return redirect("keys", membership.organization.public_id)
    return render_page(request, membership, "portal/key_revoke.html", {"key": key}, tab="keys")
