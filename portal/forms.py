"""The portal's forms. They parse and explain; the rooms decide."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from allauth.account.forms import SignupForm as AllauthSignupForm
from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from tenants import actions
from tenants.models import Organization, Project, ScreeningPolicy, User


class NameField(forms.CharField):
    """One printable line of at most 120 characters, as the tenants room asks."""

    def __init__(self, **kwargs: Any):
        super().__init__(**({"max_length": 120, "strip": True} | kwargs))

    def validate(self, value: str) -> None:
        super().validate(value)
        if not value.isprintable():
            raise ValidationError("Use printable characters only.", code="unprintable")


class SignupForm(AllauthSignupForm):  # type: ignore[misc]
    """A person and their organization, created together or not at all."""

    organization = NameField(
        label="Organization name",
        help_text="Your company or team. You can change it later.",
        widget=forms.TextInput(attrs={"autocomplete": "organization"}),
    )
    field_order = ("email", "organization", "password1", "password2")

    @transaction.atomic
    def save(self, request: HttpRequest) -> User:
        user: User = super().save(request)
        actions.create_organization(
            self.cleaned_data["organization"],
            acting_user=user,
            address=request.META.get("REMOTE_ADDR") or None,
        )
        return user

    def try_save(self, request: HttpRequest) -> tuple[User | None, HttpResponse | None]:
        try:
            result: tuple[User | None, HttpResponse | None] = super().try_save(request)
        except IntegrityError:
            # Two submissions of the same form: the other one has just made the account.
            messages.info(request, "Please log in to continue.")
            return None, redirect("account_login")
        return result


class OrganizationForm(forms.Form):
    name = NameField(label="Organization name")


EXPIRIES: dict[str, tuple[str, timedelta | None]] = {
    "": ("Never", None),
    "7": ("In 7 days", timedelta(days=7)),
    "30": ("In 30 days", timedelta(days=30)),
    "90": ("In 90 days", timedelta(days=90)),
    "365": ("In a year", timedelta(days=365)),
}


class KeyForm(forms.Form):
    form_id = forms.CharField(max_length=200, widget=forms.HiddenInput)
    name = NameField(
        label="Name",
        help_text="What will use it, for example “staging backend”.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    project = forms.ModelChoiceField(
        queryset=Project.objects.none(), to_field_name="public_id", empty_label=None
    )
    expires = forms.ChoiceField(
        label="Expires",
        required=False,
        choices=[(value, label) for value, (label, _) in EXPIRIES.items()],
    )

    def __init__(self, *args: Any, projects: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.fields["project"].queryset = projects  # type: ignore[attr-defined]

    @property
    def expires_at(self) -> datetime | None:
        lifetime = EXPIRIES[self.cleaned_data["expires"]][1]
        return timezone.now() + lifetime if lifetime else None


CACHE_TTLS = {
    0: "Off",
    60: "1 minute",
    600: "10 minutes",
    3_600: "1 hour",
    86_400: "1 day",
}


class SettingsForm(forms.Form):
    name = NameField(label="Organization name")
    screening_policy = forms.ChoiceField(
        label="Content screening",
        choices=ScreeningPolicy.choices,
        help_text="What happens when a prompt or an answer falls into a screened category.",
    )
    response_cache_ttl_s = forms.TypedChoiceField(
        label="Response cache",
        coerce=int,
        help_text=(
            "How long an exact answer to a deterministic request (temperature 0) is kept for "
            "your organization. A repeated request is then answered from the cache."
        ),
    )

    def __init__(self, *args: Any, organization: Organization, **kwargs: Any):
        self.organization = organization
        kwargs["initial"] = {name: getattr(organization, name) for name in self.base_fields}
        super().__init__(*args, **kwargs)
        # Staff may have set a lifetime that the list does not offer; saving must keep it.
        current = organization.response_cache_ttl_s
        choices = CACHE_TTLS | {current: CACHE_TTLS.get(current, f"{current} seconds")}
        field = self.fields["response_cache_ttl_s"]
        field.choices = sorted(choices.items())  # type: ignore[attr-defined]

    @property
    def changes(self) -> dict[str, Any]:
        """Only what differs from the organization as it is."""
        return {
            name: value
            for name, value in self.cleaned_data.items()
            if value != getattr(self.organization, name)
        }
