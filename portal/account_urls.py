"""Addresses of accounts. allauth's views are mounted one by one, each behind its limit:
what is not listed here (log-in codes, phones, social accounts of one's choice) does not
exist. ``tests/portal/test_account_urls.py`` fails on an address without a limit.
"""

from __future__ import annotations

from allauth.account import views as account
from allauth.mfa.base import views as mfa
from allauth.mfa.recovery_codes import views as recovery_codes
from allauth.mfa.totp import views as totp
from allauth.mfa.webauthn import views as webauthn
from django.urls import URLPattern, path, re_path
from django.views.generic import RedirectView

from portal.ratelimits import limited
from portal.views import profile, providers, security
from portal.views import single_sign_on as sso
from portal.views.security import not_under_single_sign_on

entrance = [
    path("accounts/login/", limited("log-in", account.login), name="account_login"),
    path("accounts/logout/", limited("log-out", account.logout), name="account_logout"),
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
    path(
        "accounts/second-factor/",
        limited("second-factor", mfa.authenticate),
        name="mfa_authenticate",
    ),
    path(
        "accounts/passkey/login/",
        limited("passkey-log-in", webauthn.login_webauthn),
        name="mfa_login_webauthn",
    ),
]

confirmation = [
    path(
        "accounts/confirm/password/",
        limited("password-confirm", account.reauthenticate),
        name="account_reauthenticate",
    ),
    path(
        "accounts/confirm/code/",
        limited("second-factor", mfa.reauthenticate),
        name="mfa_reauthenticate",
    ),
    path(
        "accounts/confirm/passkey/",
        limited("second-factor", webauthn.reauthenticate_webauthn),
        name="mfa_reauthenticate_webauthn",
    ),
]

own_security = [
    path("accounts/profile/", limited("profile", profile.profile), name="profile"),
    path("accounts/security/", security.security, name="mfa_index"),
    path(
        "accounts/email/",
        limited("email-change", not_under_single_sign_on(account.email)),
        name="account_email",
    ),
    path(
        "accounts/password/change/",
        limited("password-change", not_under_single_sign_on(account.password_change)),
        name="account_change_password",
    ),
    path(
        "accounts/password/set/",
        limited("password-change", not_under_single_sign_on(account.password_set)),
        name="account_set_password",
    ),
    path(
        "accounts/app/add/",
        limited("second-factor-change", security.ActivateTotp.as_view()),
        name="mfa_activate_totp",
    ),
    path(
        "accounts/app/remove/",
        limited("second-factor-change", totp.deactivate_totp),
        name="mfa_deactivate_totp",
    ),
    path(
        "accounts/recovery-codes/",
        recovery_codes.view_recovery_codes,
        name="mfa_view_recovery_codes",
    ),
    path(
        "accounts/recovery-codes/new/",
        limited("second-factor-change", recovery_codes.generate_recovery_codes),
        name="mfa_generate_recovery_codes",
    ),
    path(
        "accounts/passkeys/",
        RedirectView.as_view(pattern_name="mfa_index"),
        name="mfa_list_webauthn",
    ),
    path(
        "accounts/passkeys/add/",
        limited("second-factor-change", security.AddPasskey.as_view()),
        name="mfa_add_webauthn",
    ),
    path(
        "accounts/passkeys/<int:pk>/rename/",
        limited("second-factor-change", webauthn.edit_webauthn),
        name="mfa_edit_webauthn",
    ),
    path(
        "accounts/passkeys/<int:pk>/remove/",
        limited("second-factor-change", webauthn.remove_webauthn),
        name="mfa_remove_webauthn",
    ),
    path(
        "accounts/sessions/",
        limited("sessions", security.list_sessions),
        name="usersessions_list",
    ),
    path(
        "o/<str:organization_id>/second-factor/",
        security.second_factor_required,
        name="second_factor_required",
    ),
]

single_sign_on = [
    path("accounts/single-sign-on/", limited("single-sign-on", sso.start), name="single_sign_on"),
    path("accounts/social/", limited("single-sign-on", sso.start_social), name="social_login"),
    path("accounts/single-sign-on/cancelled/", sso.cancelled, name="socialaccount_login_cancelled"),
    path(
        "accounts/oidc/<str:provider_id>/callback/",
        limited("single-sign-on-return", sso.oidc_callback, counts_reading=True),
        name="openid_connect_callback",
    ),
    path(
        "accounts/saml/<str:organization_slug>/acs/",
        limited("single-sign-on-return", sso.saml_acs),
        name="saml_acs",
    ),
    path(
        "accounts/saml/<str:organization_slug>/acs/finish/",
        limited("single-sign-on-return", sso.saml_finish, counts_reading=True),
        name="saml_finish_acs",
    ),
    path(
        "accounts/saml/<str:organization_slug>/metadata/",
        limited("single-sign-on-return", sso.saml_metadata, counts_reading=True),
        name="saml_metadata",
    ),
    path("accounts/saml/<str:organization_slug>/logout/", sso.saml_logout, name="saml_sls"),
    path("o/<str:organization_id>/single-sign-on/", providers.list_providers, name="providers"),
    path(
        "o/<str:organization_id>/single-sign-on/new/",
        limited("single-sign-on-change", providers.create_provider),
        name="provider_create",
    ),
    path(
        "o/<str:organization_id>/single-sign-on/<str:provider_id>/",
        limited("single-sign-on-change", providers.change_provider),
        name="provider_change",
    ),
    path(
        "o/<str:organization_id>/single-sign-on/<str:provider_id>/remove/",
        limited("single-sign-on-change", providers.delete_provider),
        name="provider_delete",
    ),
]

urlpatterns: list[URLPattern] = [*entrance, *confirmation, *own_security, *single_sign_on]
