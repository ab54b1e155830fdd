"""Forms of accounts: addresses, passkeys, single sign-on."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.forms import AddEmailForm as AllauthAddEmailForm
from allauth.mfa.webauthn.forms import AddWebAuthnForm as AllauthAddWebAuthnForm
from allauth.mfa.webauthn.forms import EditWebAuthnForm as AllauthEditWebAuthnForm
from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from portal.fields import NameField, QuickSelect
from portal.preferences import languages, time_zones
from portal.room_words import choices_of, in_words
from tenants import permissions
from tenants.access import Actor
from tenants.actions.single_sign_on import ProviderTerms
from tenants.models import IdentityProvider, Role, User

LONGEST_PASSKEY_NAME = 60


class AddEmailForm(AllauthAddEmailForm):
    """Not an address that logs in by single sign-on only: here it would be a second way in."""

    def clean_email(self) -> str:
        email: str = super().clean_email()
        get_adapter().check_password_address(email)
        return email


class AddPasskeyForm(AllauthAddWebAuthnForm):
    name = forms.CharField(
        label=gettext_lazy("Name"),
        required=False,
        max_length=LONGEST_PASSKEY_NAME,
        help_text=gettext_lazy("So that you know it again, for example “Work laptop”."),
    )
    passwordless = forms.BooleanField(
        label=gettext_lazy("Log in with it alone, without a password"),
        required=False,
        initial=True,
    )


class RenamePasskeyForm(AllauthEditWebAuthnForm):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=LONGEST_PASSKEY_NAME)


class ProfileForm(forms.Form):
    name = NameField(
        label=gettext_lazy("Name"), required=False, help_text=gettext_lazy("As others see it.")
    )
    language = forms.ChoiceField(label=gettext_lazy("Language"), required=False)
    time_zone = forms.ChoiceField(
        label=gettext_lazy("Time zone"),
        required=False,
        widget=QuickSelect,
        help_text=gettext_lazy(
            "Times on pages are written in it; exports and the API stay in UTC."
        ),
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any):
        kwargs["initial"] = {
            "name": user.name,
            "language": user.language,
            "time_zone": user.time_zone,
        }
        super().__init__(*args, **kwargs)
        as_browser = ("", _("As the browser says"))
        zones = [(name, name.replace("_", " ")) for name in sorted(time_zones())]
        self._offer("language", [as_browser, *languages().items()])
        self._offer("time_zone", [as_browser, *zones])

    def _offer(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices


class SingleSignOnForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("Work email or organization"),
        max_length=254,
        help_text=gettext_lazy(
            "Your address, its domain, or the short name that your organization gave you."
        ),
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )


class NewProviderForm(forms.Form):
    """What never changes about a provider."""

    protocol = forms.ChoiceField(
        label=gettext_lazy("Protocol"), choices=choices_of(IdentityProvider.Protocol)
    )
    slug = forms.RegexField(
        r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$",
        label=gettext_lazy("Short name"),
        max_length=40,
        help_text=gettext_lazy(
            "Part of the log-in address; small letters, digits and hyphens. "
            "It cannot be changed later."
        ),
        error_messages={"invalid": gettext_lazy("Small letters, digits and hyphens only.")},
    )


class ProviderForm(forms.Form):
    """A provider's settings; the fields are those of its protocol."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=80,
        help_text=gettext_lazy("What people see when they log in."),
    )
    issuer = forms.CharField(
        label=gettext_lazy("Issuer URL"),
        max_length=500,
        help_text=gettext_lazy(
            "As in the provider’s discovery document, for example https://login.example.com."
        ),
    )
    client_id = forms.CharField(label=gettext_lazy("Client ID"), max_length=191)
    secret = forms.CharField(
        label=gettext_lazy("Client secret"),
        required=False,
        max_length=500,
        help_text=gettext_lazy(
            "Stored encrypted and never shown again. Leave empty to keep the present one."
        ),
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )
    entity_id = forms.CharField(label=gettext_lazy("Provider’s entity ID"), max_length=500)
    sso_url = forms.CharField(label=gettext_lazy("Provider’s log-in URL"), max_length=500)
    x509cert = forms.CharField(
        label=gettext_lazy("Signing certificate"),
        max_length=10_000,
        help_text=gettext_lazy("PEM. Its key must have signed each assertion."),
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false"}),
    )
    domains = forms.CharField(
        label=gettext_lazy("Email domains"),
        required=False,
        max_length=2_000,
        help_text=gettext_lazy(
            "One a line. People come in once the staff of this installation have verified "
            "that a domain is yours."
        ),
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
    )
    default_role = forms.ChoiceField(
        label=gettext_lazy("Role of people who join by it"), initial=Role.DEVELOPER.value
    )
    is_enabled = forms.BooleanField(label=gettext_lazy("People can log in by it"), required=False)
    is_enforced = forms.BooleanField(
        label=gettext_lazy("Addresses of its verified domains can log in by no other way"),
        required=False,
    )

    OF_PROTOCOL = {
        IdentityProvider.Protocol.OIDC: ("issuer", "client_id", "secret"),
        IdentityProvider.Protocol.SAML: ("entity_id", "sso_url", "x509cert"),
    }

    def __init__(self, *args: Any, protocol: str, actor: Actor, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for other, names in self.OF_PROTOCOL.items():
            for name in names:
                if other != protocol:
                    del self.fields[name]
        self.fields["default_role"].choices = [  # type: ignore[attr-defined]
            (role.value, in_words(role.label))
            for role in Role
            if role != Role.OWNER and permissions.OF_ROLE[role] <= actor.everywhere
        ]
        self._settings = [name for name in self.OF_PROTOCOL[protocol] if name not in _COLUMNS]  # type: ignore[index]

    @property
    def terms(self) -> ProviderTerms:
        given = self.cleaned_data
        return ProviderTerms(
            name=given["name"],
            settings={name: given[name] for name in self._settings},
            client_id=given.get("client_id", ""),
            secret=given.get("secret", ""),
            domains=tuple(given["domains"].replace(",", " ").split()),
            default_role=given["default_role"],
            is_enabled=given["is_enabled"],
            is_enforced=given["is_enforced"],
        )


_COLUMNS = frozenset({"client_id", "secret"})


def initial_of(provider: IdentityProvider) -> dict[str, Any]:
    return provider.settings | {
        "name": provider.name,
        "client_id": provider.client_id,
        "domains": "\n".join(provider.settings.get("requested_domains", [])),
        "default_role": provider.default_role,
        "is_enabled": provider.is_enabled,
        "is_enforced": provider.is_enforced,
    }
