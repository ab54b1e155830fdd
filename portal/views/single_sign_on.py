"""Logging in by an organization's provider: on the way there, and back."""

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
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from lxml.etree import LxmlError
from onelogin.saml2.settings import OneLogin_Saml2_Settings
from redis.exceptions import RedisError
from requests import RequestException

from portal import account_audit, single_sign_on
from portal.account_forms import SingleSignOnForm
from portal.openid import OpenIdAdapter
from tenants import identity_providers
from tenants.models import IdentityProvider

log = logging.getLogger("portal.single_sign_on")

# The same for an unknown name, one that is turned off, and a domain that nobody verified.
NOT_FOUND = "There is no single sign-on under this name. Check it, or ask your administrator."
UNREACHABLE = "Your organization’s provider does not answer. Please try again in a moment."
MALFORMED = "Your provider’s answer could not be read. Ask your administrator."
NOT_OURS = "This log-in was not started here, took too long, or was used before."
NOT_CHECKED = "Single sign-on cannot be checked at the moment. Please try again."
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
        url, problem = _way_to(request, provider) if provider else ("", NOT_FOUND)
        if url:
            # A page, not a redirect: our policy lets forms lead nowhere but here.
            return render(
                request, "socialaccount/continue.html", {"url": url, "provider": provider}
            )
        form.add_error("name", problem)
    context = {"form": form, "next": get_next_redirect_url(request) or ""}
    return render(request, "socialaccount/single_sign_on.html", context)


def _way_to(request: HttpRequest, provider: IdentityProvider) -> tuple[str, str]:
    """The provider's address for this log-in, or why there is none."""
    spoken_to = single_sign_on.build_app(provider).get_provider(request)
    try:
        response = spoken_to.redirect(
            request, AuthProcess.LOGIN, next_url=get_next_redirect_url(request)
        )
    except (OAuth2Error, RequestException) as error:
        log.warning("identity provider unreachable", extra={"provider": provider.public_id})
        account_audit.record_refused_provider(request, provider, type(error).__name__)
        return "", UNREACHABLE
    return response.get("Location", ""), UNREACHABLE


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


def _refuse(request: HttpRequest, handle: str, problem: str) -> HttpResponse:
    provider = identity_providers.get_by_handle(handle)
    if provider is not None:
        account_audit.record_refused_provider(request, provider, problem)
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
