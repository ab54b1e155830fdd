"""Logging in by a provider from outside: on the way there, and back."""

from __future__ import annotations

import logging

from allauth.account.utils import get_next_redirect_url
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.base.constants import AuthProcess
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView
from allauth.socialaccount.providers.saml import views as saml
from allauth.socialaccount.providers.saml.utils import build_saml_config, get_app_or_404
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from lxml.etree import LxmlError
from onelogin.saml2.settings import OneLogin_Saml2_Settings
from redis.exceptions import RedisError
from requests import RequestException

from portal import invited, single_sign_on, social_login
from portal.account_forms import SingleSignOnForm
from portal.identity_sources import IdentitySource, in_english
from portal.openid import OpenIdAdapter
from portal.organization_login import OfOrganization
from tenants import identity_providers

log = logging.getLogger("portal.single_sign_on")

# The same for an unknown name, one that is turned off, and a domain that nobody verified.
NOT_FOUND = gettext_lazy(
    "There is no single sign-on under this name. Check it, or ask your administrator."
)
TRY_AGAIN = gettext_lazy("Please try again in a moment.")
UNREACHABLE = gettext_lazy(
    "Your organization’s provider does not answer. Please try again in a moment."
)
MALFORMED = gettext_lazy("Your provider’s answer could not be read. Ask your administrator.")
NOT_OURS = gettext_lazy("This log-in was not started here, took too long, or was used before.")
NOT_CHECKED = gettext_lazy("Single sign-on cannot be checked at the moment. Please try again.")
LARGEST_SAML_ANSWER = 256 * 1024


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def start(request: HttpRequest) -> HttpResponse:
    """Asks for the organization, and leads to its provider."""
    form = SingleSignOnForm(
        request.POST or None, initial={"name": request.GET.get("name", "")[:254]}
    )
    if request.method == "POST" and form.is_valid():
        provider = identity_providers.get_by_name(form.cleaned_data["name"])
        page = _lead_to(request, OfOrganization(provider)) if provider else None
        if page is not None:
            return page
        form.add_error("name", UNREACHABLE if provider else NOT_FOUND)
    context = {"form": form, "next": get_next_redirect_url(request) or ""}
    return render(request, "socialaccount/single_sign_on.html", context)


@require_POST
@never_cache
def start_social(request: HttpRequest) -> HttpResponse:
    """Leads to the platform's own provider."""
    source = social_login.get_source()
    if source is None:
        raise Http404
    if request.user.is_authenticated:
        return redirect("home")
    # An account that is there already is asked on that page; a new one joins with it.
    waiting = reverse("invitation") if invited.invitation_of(request) is not None else None
    page = _lead_to(request, source, otherwise=waiting)
    return page or single_sign_on.refuse(request, f"{source.name} does not answer. {TRY_AGAIN}")


def _lead_to(
    request: HttpRequest, source: IdentitySource, otherwise: str | None = None
) -> HttpResponse | None:
    """The page that goes on to the source, which comes back to ``next`` or ``otherwise``."""
    app = source.build_app()
    next_url = get_next_redirect_url(request) or otherwise
    try:
        response = app.get_provider(request).redirect(request, AuthProcess.LOGIN, next_url=next_url)
    except (OAuth2Error, RequestException) as error:
        log.warning("identity provider unreachable", extra={"provider": app.provider_id})
        source.record_refused(request, type(error).__name__)
        return None
    # A page, not a redirect: our policy lets forms lead nowhere but here.
    context = {"url": response["Location"], "name": source.name}
    return render(request, "socialaccount/continue.html", context)


@require_GET
@never_cache
def oidc_callback(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    view = OAuth2CallbackView.adapter_view(OpenIdAdapter(request, provider_id))
    try:
        response: HttpResponseBase = view(request)
    except SocialApp.DoesNotExist as error:
        raise Http404 from error
    except (OAuth2Error, RequestException, KeyError, TypeError, ValueError):
        # The endpoints are the tenant's: allauth trusts the shape of what they say.
        log.warning("identity provider answered nonsense", exc_info=True)
        return _refuse(request, provider_id, MALFORMED)
    return response


@csrf_exempt
@require_POST
@never_cache
def saml_acs(request: HttpRequest, organization_slug: str) -> HttpResponseBase:
    """Takes what the provider's page posts. It is judged in ``saml_finish``, with our cookie."""
    get_app_or_404(request, organization_slug)
    if len(request.POST.get("SAMLResponse", "")) > LARGEST_SAML_ANSWER:
        return single_sign_on.refuse(request, MALFORMED)
    response: HttpResponseBase = saml.acs(request, organization_slug=organization_slug)
    return response


@require_GET
@never_cache
def saml_finish(request: HttpRequest, organization_slug: str) -> HttpResponseBase:
    try:
        response: HttpResponseBase = saml.finish_acs(request, organization_slug=organization_slug)
    except PermissionDenied:
        return _refuse(request, organization_slug, NOT_OURS)
    except (LxmlError, KeyError, TypeError, ValueError):
        log.warning("SAML answer unreadable", exc_info=True)
        return _refuse(request, organization_slug, MALFORMED)
    except RedisError:
        # What remembers used assertions is away; without it none is taken.
        log.warning("SAML answer not checked", exc_info=True)
        return _refuse(request, organization_slug, NOT_CHECKED)
    return response


def _refuse(request: HttpRequest, handle: str, problem: str | Promise) -> HttpResponse:
    source = single_sign_on.get_source(handle)
    if source is not None:
        source.record_refused(request, in_english(problem))
    return single_sign_on.refuse(request, problem)


@require_GET
def saml_metadata(request: HttpRequest, organization_slug: str) -> HttpResponse:
    """What the organization's provider has to know of us."""
    app = get_app_or_404(request, organization_slug)
    config = build_saml_config(request, app.settings, organization_slug)
    del config["sp"]["singleLogoutService"]
    settings = OneLogin_Saml2_Settings(settings=config, sp_validation_only=True)
    return HttpResponse(settings.get_sp_metadata(), content_type="application/samlmetadata+xml")


@csrf_exempt
def saml_logout(request: HttpRequest, organization_slug: str) -> HttpResponse:
    """Not offered; allauth wants the address to have a name.

    Log-out requests may come unsigned: any page could log people out, and python3-saml
    would then redirect wherever ``RelayState`` says.
    """
    raise Http404


@require_GET
@never_cache
def cancelled(request: HttpRequest) -> HttpResponse:
    return render(request, "socialaccount/login_cancelled.html")
