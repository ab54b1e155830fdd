"""What is done to a key that exists: edited, rotated, suspended, restored, revoked."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods

from inference import selectors as inference
from portal.confirmations import Confirmation, ask
from portal.fields import add_refusal
from portal.key_forms import AdminKeyForm, KeyTermsForm, RotateForm, SuspendForm
from portal.key_status import status_of
from portal.pages import address_of, organization_page, render_page, user_of
from portal.reach import check_may_change, check_may_stop
from portal.templatetags.portal import ago, moment
from portal.views.keys import access_key, show_secret, tab_of
from tenants import access, actions
from tenants.errors import AlreadyDone, InvalidInput
from tenants.models import ApiKey, Membership


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def edit_key(request: HttpRequest, membership: Membership, key_id: str) -> HttpResponse:
    key = access_key(membership, key_id)
    check_may_change(membership, key)
    if not status_of(key, timezone.now()).can_change:
        return _too_late(request, key)
    form = _edit_form(membership, key, *([request.POST] if request.method == "POST" else []))
    if form.is_valid():
        try:
            key = actions.update_api_key(
                key,
                name=form.cleaned_data["name"],
                terms=form.terms,
                acting_user=user_of(request),
                address=address_of(request),
            )
        except InvalidInput as error:
            add_refusal(form, error.message, error.param)
        else:
            messages.success(
                request,
                gettext("“%(name)s” is saved. It holds within a second.") % {"name": key.name},
            )
            return _back(key)
    status = 400 if form.errors else 200
    return render_page(
        request,
        membership,
        "portal/key_edit.html",
        {"key": key, "form": form},
        tab=tab_of(key),
        status=status,
    )


def _edit_form(membership: Membership, key: ApiKey, *args: Any) -> KeyTermsForm | AdminKeyForm:
    if key.kind == ApiKey.Kind.ADMIN:
        return AdminKeyForm(*args, held=access.actor_of(membership).everywhere, key=key)
    return KeyTermsForm(*args, models=inference.get_model_names(), key=key)


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
@sensitive_variables("secret")
def rotate_key(request: HttpRequest, membership: Membership, key_id: str) -> HttpResponse:
    key = access_key(membership, key_id)
    check_may_change(membership, key)
    if not status_of(key, timezone.now()).can_change:
        return _too_late(request, key)
    form = RotateForm(*([request.POST] if request.method == "POST" else []), key=key)
    if form.is_valid():
        try:
            key, secret = actions.rotate_api_key(
                key,
                overlap=form.chosen,
                acting_user=user_of(request),
                address=address_of(request),
            )
        except AlreadyDone as error:
            add_refusal(form, error.message, None)
        else:
            return show_secret(request, membership, key, secret, is_rotated=True)
    return render_page(
        request,
        membership,
        "portal/key_rotate.html",
        {"key": key, "form": form, "status": status_of(key, timezone.now())},
        tab=tab_of(key),
        status=409 if form.errors else 200,
    )


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def suspend_key(request: HttpRequest, membership: Membership, key_id: str) -> HttpResponse:
    key = access_key(membership, key_id)
    check_may_stop(membership, key)
    if key.revoked_at or key.suspended_at:
        return _back(key)
    form = SuspendForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        reason = form.cleaned_data["reason"]
        actions.set_api_key_suspended(
            key, True, reason=reason, acting_user=user_of(request), address=address_of(request)
        )
        messages.success(
            request,
            gettext("“%(name)s” is suspended until somebody restores it.") % {"name": key.name},
        )
        return _back(key)
    confirmation = Confirmation(
        title=gettext("Suspend “%(name)s”?") % {"name": key.name},
        text=gettext(
            "Programs that use it are refused within a second, until somebody restores it."
        ),
        button=gettext("Suspend key"),
        back=_address(key),
        facts=_facts(key),
        is_dangerous=False,
    )
    return ask(request, membership, confirmation, tab=tab_of(key), form=form)


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def restore_key(request: HttpRequest, membership: Membership, key_id: str) -> HttpResponse:
    key = access_key(membership, key_id)
    check_may_stop(membership, key)
    if key.revoked_at or not key.suspended_at:
        return _back(key)
    if request.method == "POST":
        actions.set_api_key_suspended(
            key, False, acting_user=user_of(request), address=address_of(request)
        )
        messages.success(request, gettext("“%(name)s” works again.") % {"name": key.name})
        return _back(key)
    confirmation = Confirmation(
        title=gettext("Restore “%(name)s”?") % {"name": key.name},
        text=gettext("Programs that use it are admitted again within a second."),
        button=gettext("Restore key"),
        back=_address(key),
        facts=_facts(key) | {"Suspended": ago(key.suspended_at)},
        is_dangerous=False,
    )
    return ask(request, membership, confirmation, tab=tab_of(key))


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def revoke_key(request: HttpRequest, membership: Membership, key_id: str) -> HttpResponse:
    key = access_key(membership, key_id)
    check_may_stop(membership, key)
    if request.method == "POST":
        actions.revoke_api_key(key, acting_user=user_of(request), address=address_of(request))
        messages.success(
            request,
            gettext("“%(name)s” is revoked. Programs that use it are refused now.")
            % {"name": key.name},
        )
        return redirect(_list_of(key))
    if key.revoked_at:
        return _too_late(request, key)
    confirmation = Confirmation(
        title=gettext("Revoke “%(name)s”?") % {"name": key.name},
        text=gettext("Programs that use it are refused within a second. This cannot be undone."),
        button=gettext("Revoke key"),
        back=_address(key),
        facts=_facts(key),
        keep=gettext("Keep it"),
    )
    return ask(request, membership, confirmation, tab=tab_of(key))


def _facts(key: ApiKey) -> dict[str, Any]:
    facts = {gettext("Key"): f"…{key.last_four}"}
    if key.project is not None:
        facts[gettext("Project")] = key.project.name
    return facts | {
        gettext("Created"): moment(key.created_at),
        gettext("Last used"): ago(key.last_used_at),
    }


def _too_late(request: HttpRequest, key: ApiKey) -> HttpResponse:
    messages.info(
        request,
        gettext("“%(name)s” is revoked; there is nothing left to change.") % {"name": key.name},
    )
    return _back(key)


def _address(key: ApiKey) -> str:
    return reverse("key", args=[key.organization.public_id, key.public_id])


def _list_of(key: ApiKey) -> str:
    name = "admin_keys" if key.kind == ApiKey.Kind.ADMIN else "keys"
    return reverse(name, args=[key.organization.public_id])


def _back(key: ApiKey) -> HttpResponse:
    return redirect(_address(key))
