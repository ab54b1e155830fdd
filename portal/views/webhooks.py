"""Webhook endpoints: listed, made, changed, rotated, removed; what was sent, and sent again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from portal import confirmations
from portal.confirmations import Confirmation
from portal.fields import add_refusal
from portal.form_ids import new_key_form_id, read_webhook_form_id
from portal.pages import address_of, organization_page, render_page, user_of
from portal.webhook_forms import RotateSecretForm, WebhookForm, initial_of
from tenants import actions
from tenants.errors import AlreadyDone, InvalidInput
from tenants.models import Membership, WebhookEndpoint
from tenants.webhooks.log import access_delivery, access_endpoint, get_deliveries, get_endpoints
from tenants.webhooks.sending import body_of

MANAGE = "webhook.manage"
PAGE_SIZE = 50


@require_safe
@organization_page(MANAGE)
def list_webhooks(request: HttpRequest, membership: Membership) -> HttpResponse:
    endpoints = list(get_endpoints(membership.organization))
    return _render(request, membership, "portal/webhooks.html", {"endpoints": endpoints})


@sensitive_variables("secret")
@require_http_methods(["GET", "HEAD", "POST"])
@organization_page(MANAGE)
def create_webhook(request: HttpRequest, membership: Membership) -> HttpResponse:
    organization, user = membership.organization, user_of(request)
    initial = {"form_id": new_key_form_id(user, organization)}
    form = WebhookForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            endpoint, secret = actions.create_webhook(
                organization,
                form.terms(),
                public_id=read_webhook_form_id(form.cleaned_data["form_id"], user, organization),
                acting_user=user,
                address=address_of(request),
            )
        except AlreadyDone:
            return _sent_twice(request, membership)
        except InvalidInput as error:
            add_refusal(form, error.message, error.param)
        else:
            return _show_secret(request, membership, endpoint, secret, status=201)
    return _render(request, membership, "portal/webhook_form.html", {"form": form})


def _sent_twice(request: HttpRequest, membership: Membership) -> HttpResponse:
    messages.warning(
        request,
        gettext(
            "This form was sent twice. The webhook exists, and its secret was shown with the first "
            "answer. If you did not copy it, rotate the secret."
        ),
    )
    return redirect("webhooks", membership.organization.public_id)


@require_safe
@organization_page(MANAGE)
def show_webhook(request: HttpRequest, membership: Membership, webhook_id: str) -> HttpResponse:
    endpoint = access_endpoint(membership.organization, webhook_id)
    page = Paginator(get_deliveries(endpoint), PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"endpoint": endpoint, "page": page, "now": timezone.now()}
    return _render(request, membership, "portal/webhook.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page(MANAGE)
def edit_webhook(request: HttpRequest, membership: Membership, webhook_id: str) -> HttpResponse:
    endpoint = access_endpoint(membership.organization, webhook_id)
    form = WebhookForm(request.POST or None, initial=initial_of(endpoint))
    if request.method == "POST" and form.is_valid():
        try:
            _change(request, endpoint, form.terms(is_enabled=endpoint.is_enabled))
        except InvalidInput as error:
            add_refusal(form, error.message, error.param)
        else:
            messages.success(request, gettext("Saved."))
            return _back(membership, endpoint)
    context = {"form": form, "endpoint": endpoint}
    return _render(request, membership, "portal/webhook_form.html", context)


@require_POST
@organization_page(MANAGE)
def switch_webhook(request: HttpRequest, membership: Membership, webhook_id: str) -> HttpResponse:
    """On or off, as ``is_enabled`` says."""
    endpoint = access_endpoint(membership.organization, webhook_id)
    is_enabled = request.POST.get("is_enabled") == "1"
    terms = actions.EndpointTerms(endpoint.url, tuple(endpoint.events), endpoint.description)
    try:
        _change(request, endpoint, replace(terms, is_enabled=is_enabled))
    except InvalidInput as error:
        messages.error(request, error.message)
    else:
        messages.success(
            request, gettext("Enabled.") if is_enabled else gettext("Disabled: nothing is sent.")
        )
    return _back(membership, endpoint)


def _change(request: HttpRequest, endpoint: WebhookEndpoint, terms: actions.EndpointTerms) -> None:
    actions.update_webhook(
        endpoint, terms, acting_user=user_of(request), address=address_of(request)
    )


@sensitive_variables("secret")
@require_http_methods(["GET", "HEAD", "POST"])
@organization_page(MANAGE)
def rotate_webhook(request: HttpRequest, membership: Membership, webhook_id: str) -> HttpResponse:
    endpoint = access_endpoint(membership.organization, webhook_id)
    form = RotateSecretForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            secret = actions.rotate_webhook_secret(
                endpoint,
                overlap=form.duration,
                acting_user=user_of(request),
                address=address_of(request),
            )
        except AlreadyDone as error:
            messages.error(request, error.message)
            return _back(membership, endpoint)
        return _show_secret(request, membership, endpoint, secret, is_rotated=True)
    asked = Confirmation(
        title=gettext("Give this webhook a new secret?"),
        text=gettext("The new secret is shown once, on the next page."),
        button=gettext("Rotate secret"),
        back=_url(membership, endpoint),
        facts={gettext("URL"): endpoint.url},
        is_dangerous=False,
    )
    return confirmations.ask(request, membership, asked, tab="settings", form=form)


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page(MANAGE)
def delete_webhook(request: HttpRequest, membership: Membership, webhook_id: str) -> HttpResponse:
    endpoint = access_endpoint(membership.organization, webhook_id)
    if request.method == "POST":
        actions.delete_webhook(endpoint, acting_user=user_of(request), address=address_of(request))
        messages.success(request, gettext("The webhook is removed."))
        return redirect("webhooks", membership.organization.public_id)
    asked = Confirmation(
        title=gettext("Remove this webhook?"),
        text=gettext(
            "Nothing is sent to it any more, what waits for it neither, and its log is deleted. "
            "This cannot be undone."
        ),
        button=gettext("Remove webhook"),
        back=_url(membership, endpoint),
        facts={gettext("URL"): endpoint.url},
    )
    return confirmations.ask(request, membership, asked, tab="settings")


@require_POST
@organization_page(MANAGE)
def send_test(request: HttpRequest, membership: Membership, webhook_id: str) -> HttpResponse:
    endpoint = access_endpoint(membership.organization, webhook_id)
    try:
        delivery = actions.send_test_event(
            endpoint, acting_user=user_of(request), address=address_of(request)
        )
    except AlreadyDone as error:
        return confirmations.refuse(request, error, "webhook", *_ids(membership, endpoint))
    messages.success(request, gettext("A test event is on its way. Reload to see what came of it."))
    return redirect("webhook_delivery", *_ids(membership, endpoint), delivery.public_id)


@require_safe
@organization_page(MANAGE)
def show_delivery(
    request: HttpRequest, membership: Membership, webhook_id: str, delivery_id: str
) -> HttpResponse:
    endpoint = access_endpoint(membership.organization, webhook_id)
    delivery = access_delivery(endpoint, delivery_id)
    payload = json.dumps(json.loads(body_of(delivery.event)), indent=2, ensure_ascii=False)
    context = {"endpoint": endpoint, "delivery": delivery, "payload": payload}
    return _render(request, membership, "portal/webhook_delivery.html", context)


@require_POST
@organization_page(MANAGE)
def replay_delivery(
    request: HttpRequest, membership: Membership, webhook_id: str, delivery_id: str
) -> HttpResponse:
    endpoint = access_endpoint(membership.organization, webhook_id)
    delivery = access_delivery(endpoint, delivery_id)
    ids = _ids(membership, endpoint)
    try:
        again = actions.replay_delivery(
            delivery, acting_user=user_of(request), address=address_of(request)
        )
    except AlreadyDone as error:
        return confirmations.refuse(request, error, "webhook_delivery", *ids, delivery_id)
    messages.success(
        request, gettext("The event is on its way again. Reload to see what came of it.")
    )
    return redirect("webhook_delivery", *ids, again.public_id)


def _ids(membership: Membership, endpoint: WebhookEndpoint) -> tuple[str, str]:
    return membership.organization.public_id, endpoint.public_id


def _url(membership: Membership, endpoint: WebhookEndpoint) -> str:
    return reverse("webhook", args=_ids(membership, endpoint))


def _back(membership: Membership, endpoint: WebhookEndpoint) -> HttpResponse:
    return redirect(_url(membership, endpoint))


@sensitive_variables("secret")
def _show_secret(
    request: HttpRequest,
    membership: Membership,
    endpoint: WebhookEndpoint,
    secret: str,
    *,
    is_rotated: bool = False,
    status: int = 200,
) -> HttpResponse:
    context = {"endpoint": endpoint, "secret": secret, "is_rotated": is_rotated}
    return render_page(
        request, membership, "portal/webhook_secret.html", context, tab="settings", status=status
    )


def _render(
    request: HttpRequest, membership: Membership, template: str, context: dict[str, Any]
) -> HttpResponse:
    form = context.get("form")
    status = 400 if form is not None and form.errors else 200
    return render_page(request, membership, template, context, tab="settings", status=status)
