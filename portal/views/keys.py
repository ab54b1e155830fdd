"""API keys of projects and service accounts: listed, looked at, created (secret shown once)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_safe

from inference import selectors as inference
from portal.fields import add_refusal
from portal.form_ids import new_key_form_id, read_key_form_id
from portal.key_forms import KeyFilter, KeyForm
from portal.key_status import status_of
from portal.pages import address_of, organization_page, render_page, user_of
from portal.reach import Reach, check_reach, may_mint, reach_of
from portal.tables import Column, Table
from tenants import access, actions, selectors
from tenants.errors import AlreadyDone, InvalidInput
from tenants.models import ApiKey, Membership, Organization


class KeyTable(Table):
    """Keys of projects and service accounts that this member may see."""

    columns = (
        Column("name", gettext_lazy("Name"), ("name",), is_primary=True),
        Column("project", gettext_lazy("Project"), ("project__name", "name"), style="soft wrap"),
        Column("owner", gettext_lazy("Owner"), style="soft person"),
        Column("may", gettext_lazy("May do"), style="soft"),
        Column("created", gettext_lazy("Created"), ("created_at",), True, style="soft"),
        Column(
            "used", gettext_lazy("Last used"), ("last_used_at",), True, is_sparse=True, style="soft"
        ),
        Column("status", gettext_lazy("Status")),
    )
    sort = "-created"

    def __init__(self, request: HttpRequest, organization: Organization, reach: Reach):
        projects = selectors.get_projects(organization, projects=reach.only)
        self.filters = KeyFilter(request.GET, projects=list(projects))
        self.organization, self.reach = organization, reach
        super().__init__(request, form=self.filters)

    def get_rows(self, chosen: Mapping[str, Any]) -> QuerySet[ApiKey]:
        projects = self.reach.only
        if "project" in chosen:
            projects = frozenset({self.filters.projects[chosen["project"]]})
        return selectors.get_api_keys(
            self.organization,
            projects=projects,
            state=chosen.get("state", ""),
            search=chosen.get("q", ""),
        )

    def prepare(self, rows: Sequence[ApiKey]) -> list[dict[str, Any]]:
        now = timezone.now()
        return [{"key": key, "status": status_of(key, now)} for key in rows]


@require_safe
@organization_page("organization.read")
def list_keys(request: HttpRequest, membership: Membership) -> HttpResponse:
    reach = check_reach(membership, "key.read")
    context = {
        "keys": KeyTable(request, membership.organization, reach),
        "may_create": bool(reach_of(membership, "key.create")),
    }
    return render_page(request, membership, "portal/keys.html", context, tab="keys")


def query_of(chosen: dict[str, Any]) -> str:
    """What a link to another page of the same list carries: ``a=1&b=2&``, or nothing."""
    query = QueryDict(mutable=True)
    query.update({name: str(value) for name, value in chosen.items()})
    return f"{query.urlencode()}&" if chosen else ""


@require_safe
@organization_page("organization.read")
def show_key(request: HttpRequest, membership: Membership, key_id: str) -> HttpResponse:
    key = access_key(membership, key_id)
    status = status_of(key, timezone.now())
    is_admin = key.kind == ApiKey.Kind.ADMIN
    stopper = "admin_key.manage" if is_admin else "key.revoke"
    context = {
        "key": key,
        "status": status,
        "may_change": status.can_change and may_mint(membership, key.kind, key.project),
        "may_stop": status.can_change and access.is_allowed(membership, stopper, key.project),
        "may_audit": access.is_allowed(membership, "audit.read"),
    }
    return render_page(request, membership, "portal/key.html", context, tab=tab_of(key))


def access_key(membership: Membership, key_id: str) -> ApiKey:
    """A key that this member may see; of one in another project they learn nothing."""
    key = access.access_api_key(membership.organization, key_id)
    permission = "admin_key.manage" if key.kind == ApiKey.Kind.ADMIN else "key.read"
    access.check_permission(membership, permission, key.project)
    return key


def tab_of(key: ApiKey) -> str:
    return "settings" if key.kind == ApiKey.Kind.ADMIN else "keys"


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def create_key(request: HttpRequest, membership: Membership) -> HttpResponse:
    reach = check_reach(membership, "key.create")
    if request.method == "POST":
        form = _form(membership, reach, request.POST)
        if form.is_valid():
            return _create(request, membership, form)
    else:
        initial = {
            "form_id": new_key_form_id(user_of(request), membership.organization),
            "owner": request.GET.get("owner", ""),
        }
        form = _form(membership, reach, initial=initial)
    return _show_form(request, membership, form)


def _form(membership: Membership, reach: Reach, *args: Any, **kwargs: Any) -> KeyForm:
    accounts = reach_of(membership, "service_account.manage")
    organization = membership.organization
    return KeyForm(
        *args,
        models=inference.get_model_names(),
        projects=selectors.get_projects(organization, projects=reach.only),
        accounts=selectors.get_service_account_choices(organization, projects=accounts.only),
        **kwargs,
    )


def _show_form(request: HttpRequest, membership: Membership, form: KeyForm) -> HttpResponse:
    return render_page(
        request,
        membership,
        "portal/key_create.html",
        {"form": form},
        tab="keys",
        status=400 if form.errors else 200,
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
            form.cleaned_data["owner"],
            form.cleaned_data["name"],
            acting_user=user_of(request),
            terms=form.terms,
            public_id=public_id,
            address=address_of(request),
        )
    except AlreadyDone:
        return sent_twice(request, "keys", organization.public_id)
    except InvalidInput as error:
        add_refusal(form, error.message, error.param)
        return _show_form(request, membership, form)
    return show_secret(request, membership, key, secret, status=201)


def sent_twice(request: HttpRequest, back: str, organization_id: str) -> HttpResponse:
    messages.warning(
        request,
        gettext(
            "This form was sent twice. Its key exists, and its secret was shown with the first "
            "answer. If you did not copy it, revoke that key and create another."
        ),
    )
    return redirect(back, organization_id)


@sensitive_variables("secret")
def show_secret(
    request: HttpRequest,
    membership: Membership,
    key: ApiKey,
    secret: str,
    *,
    is_rotated: bool = False,
    status: int = 200,
) -> HttpResponse:
    now = timezone.now()
    context = {
        "key": key,
        "status": status_of(key, now),
        "secret": secret,
        "is_rotated": is_rotated,
        "is_first_key": key.kind != ApiKey.Kind.ADMIN and selectors.is_first_key(key),
        "now": now,
        "model": inference.get_example_chat_model(),
    }
    return render_page(
        request, membership, "portal/key_created.html", context, tab=tab_of(key), status=status
    )
