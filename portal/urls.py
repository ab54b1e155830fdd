"""Addresses of the pages. allauth's views are mounted one by one, each behind its limit:
what is not listed here (e-mail lists, log-in codes, phones) does not exist.
"""

from __future__ import annotations

from allauth.account import views as account
from django.urls import path, re_path

from portal.ratelimits import limited
from portal.views import home, keys, organization, usage

urlpatterns = [
    path("", home.home, name="home"),
    path("theme/", home.choose_theme, name="theme"),
    path(
        "organizations/new/",
        limited("organization-create", home.create_organization),
        name="organization_create",
    ),
    path("o/<str:organization_id>/", home.overview, name="overview"),
    path("o/<str:organization_id>/keys/", keys.list_keys, name="keys"),
    path(
        "o/<str:organization_id>/keys/new/",
        limited("key-create", keys.create_key),
        name="key_create",
    ),
    path(
        "o/<str:organization_id>/keys/<str:key_id>/revoke/",
        keys.revoke_key,
        name="key_revoke",
    ),
    path("o/<str:organization_id>/usage/", usage.usage, name="usage"),
    path(
        "o/<str:organization_id>/settings/",
        organization.organization_settings,
        name="settings",
    ),
    path("accounts/login/", limited("log-in", account.login), name="account_login"),
    path("accounts/logout/", account.logout, name="account_logout"),
    path("accounts/inactive/", account.account_inactive, name="account_inactive"),
    path("accounts/signup/", limited("sign-up", account.signup), name="account_signup"),
    path(
        "accounts/confirm-email/",
        account.email_verification_sent,
        name="account_email_verification_sent",
    ),
    re_path(
        r"^accounts/confirm-email/(?P<key>[-:\w]+)/$",
        limited("confirm-email", account.confirm_email),
        name="account_confirm_email",
    ),
    path(
        "accounts/password/change/",
        limited("password-change", account.password_change),
        name="account_change_password",
    ),
    path(
        "accounts/password/set/",
        limited("password-change", account.password_set),
        name="account_set_password",
    ),
    path(
        "accounts/password/reset/",
        limited("password-reset", account.password_reset),
        name="account_reset_password",
    ),
    path(
        "accounts/password/reset/done/",
        account.password_reset_done,
        name="account_reset_password_done",
    ),
    re_path(
        r"^accounts/password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        limited("password-reset-key", account.password_reset_from_key),
        name="account_reset_password_from_key",
    ),
    path(
        "accounts/password/reset/key/done/",
        account.password_reset_from_key_done,
        name="account_reset_password_from_key_done",
    ),
]
