"""Second factors: stored encrypted, each code taken once, and who must have used one."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from allauth.account.authentication import get_authentication_records
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.adapter import get_adapter as get_mfa_adapter
from allauth.mfa.base.forms import AuthenticateForm as AllauthAuthenticateForm
from allauth.mfa.base.forms import ReauthenticateForm as AllauthReauthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import (
    format_hotp_value,
    hotp_value,
    yield_hotp_counters_from_time,
)
from allauth.mfa.utils import decrypt as decrypt_factor
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from redis.exceptions import RedisError

from portal.organization_login import FACTOR_OF_PROVIDER
from tenants.encryption import decrypt, encrypt
from tenants.models import Organization, User

log = logging.getLogger("portal.second_factor")

PURPOSE = "second-factor"
UNCHECKED = "Codes cannot be checked at the moment. Please try again, or use a passkey."


class MfaAdapter(DefaultMFAAdapter):
    def encrypt(self, text: str) -> str:
        return encrypt(text, purpose=PURPOSE).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return decrypt(encrypted_text.encode(), purpose=PURPOSE)

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        """Passkeys belong to the public address; elsewhere than in production to any."""
        public = urlsplit(settings.SLUICE_URL).hostname or ""
        if settings.SLUICE_ENV == "production":
            return {"id": public, "name": "Sluice"}
        return super().get_public_key_credential_rp_entity() | {"name": "Sluice"}

    def generate_authenticator_name(self, user: User, type: Authenticator.Type) -> str:
        count = Authenticator.objects.filter(user_id=user.pk, type=type).count()
        return f"Passkey {count + 1}"


def claim_totp_code(authenticator: Authenticator, code: str) -> bool:
    """Whether this code, which is right, is newer than every one that was used before.

    allauth remembers a code in the cache for one period only, less than the tolerance
    lets it live, and the cache may be emptied. The row lock settles two uses at once.
    """
    with transaction.atomic():
        locked = Authenticator.objects.select_for_update().get(pk=authenticator.pk)
        secret = decrypt_factor(locked.data["secret"])
        counters = [
            counter
            for counter in yield_hotp_counters_from_time()
            if format_hotp_value(hotp_value(secret, counter)) == code.replace(" ", "")
        ]
        if not counters or max(counters) <= locked.data.get("last_counter", -1):
            return False
        locked.data["last_counter"] = max(counters)
        locked.save(update_fields=["data"])
    authenticator.data = locked.data
    return True


class _EachCodeOnce:
    authenticator: Authenticator

    def clean_code(self) -> str:
        try:
            code: str = super().clean_code()  # type: ignore[misc]
        except RedisError as error:
            # allauth's memory of codes; without it nobody is let in, but told why.
            log.warning("second factor not checked", exc_info=True)
            raise ValidationError(UNCHECKED) from error
        is_totp = self.authenticator.type == Authenticator.Type.TOTP
        if is_totp and not claim_totp_code(self.authenticator, code):
            raise get_mfa_adapter().validation_error("incorrect_code")
        return code


class AuthenticateForm(_EachCodeOnce, AllauthAuthenticateForm):
    pass


class ReauthenticateForm(_EachCodeOnce, AllauthReauthenticateForm):
    pass


def is_set_up(user: User) -> bool:
    """Whether the user has a factor to be asked for; recovery codes alone are none."""
    types = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)
    return Authenticator.objects.filter(user_id=user.pk, type__in=types).exists()


def is_missing(request: HttpRequest, organization: Organization) -> bool:
    """Whether the organization asks for a second factor that this session did not show.

    A factor that the organization's own provider asked for counts, for this
    organization alone: another's provider may say what it likes.
    """
    if not organization.requires_mfa:
        return False
    if request.session.get(FACTOR_OF_PROVIDER) == organization.pk:
        return False
    records = get_authentication_records(request, request.user)
    return not any(record.get("method") == "mfa" for record in records)
