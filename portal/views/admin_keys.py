"""Admin keys: with them programs manage the organization; they cannot infer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_safe

from portal.confirmations import refuse
from portal.fields import add_refusal
from portal.form_ids import new_key_form_id, read_key_form_id
from portal.key_forms import AdminKeyForm
from portal.key_status import status_of
from portal.pages import address_of, organization_page, render_page, user_of
from portal.tables import Column, Table
from portal.views.keys import sent_twice, show_secret
from tenants import access, actions, selectors
from tenants.errors import AlreadyDone, InvalidInput
from tenants.models import ApiKey, Membership, Organization


class AdminKeyTable(Table):
    columns = (
        Column("name", gettext_lazy("Name"), ("name",), is_primary=True),
        Column("permissions", gettext_lazy("Permissions"), is_number=True),
        Column("by", gettext_lazy("Created by"), style="soft person"),
        Column("created", gettext_lazy("Created"), ("created_at",), True, style="soft"),
        Column(
            "used", gettext_lazy("Last used"), ("last_used_at",), True, is_sparse=True, style="soft"
        ),
        Column("status", gettext_lazy("Status")),
    )
    sort = "-created"

    def __init__(self, request: HttpRequest, organization: Organization):
        super().__init__(request)
        self.organization = organization

    def get_rows(self, chosen: Mapping[str, Any]) -> QuerySet[ApiKey]:
        return selectors.get_admin_keys(self.organization)

    def prepare(self, rows: Sequence[ApiKey]) -> list[dict[str, Any]]:
        now = timezone.now()
        return [{"key": key, "status": status_of(key, now)} for key in rows]


@require_safe
@organization_page("admin_key.manage")
def list_admin_keys(request: HttpRequest, membership: Membership) -> HttpResponse:
    table = AdminKeyTable(request, membership.organization)
    return render_page(
        request, membership, "portal/admin_keys.html", {"keys": table}, tab="settings"
    )


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("admin_key.manage")
def create_admin_key(request: HttpRequest, membership: Membership) -> HttpResponse:
    held = access.actor_of(membership).everywhere
    if request.method == "POST":
        form = AdminKeyForm(request.POST, held=held)
        if form.is_valid():
            return _create(request, membership, form)
    else:
        form_id = new_key_form_id(user_of(request), membership.organization)
        form = AdminKeyForm(held=held, initial={"form_id": form_id})
    return _show_form(request, membership, form)


def _show_form(request: HttpRequest, membership: Membership, form: AdminKeyForm) -> HttpResponse:
    return render_page(
        request,
        membership,
        "portal/admin_key_create.html",
        {"form": form},
        tab="settings",
        status=400 if form.errors else 200,
    )


@sensitive_variables("secret")
def _create(request: HttpRequest, membership: Membership, form: AdminKeyForm) -> HttpResponse:
    organization = membership.organization
    # The form offered no more; the room leaves this check to whoever calls it.
    access.actor_of(membership).check_gives(frozenset(form.terms.scopes))
    try:
        public_id = read_key_form_id(form.cleaned_data["form_id"], user_of(request), organization)
    except InvalidInput as error:
        return refuse(request, error, "admin_key_create", organization.public_id)
    try:
        key, secret = actions.create_api_key(
            organization,
            form.cleaned_data["name"],
            acting_user=user_of(request),
            terms=form.terms,
            public_id=public_id,
            address=address_of(request),
        )
    except AlreadyDone:
        return sent_twice(request, "admin_keys", organization.public_id)
    except InvalidInput as error:
        add_refusal(form, error.message, error.param)
        return _show_form(request, membership, form)
    return show_secret(request, membership, key, secret, status=201)
