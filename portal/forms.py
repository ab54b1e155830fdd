"""The portal's forms. They parse and explain; the rooms decide."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.forms import SignupForm as AllauthSignupForm
from allauth.core import context
from django import forms
from django.contrib import messages
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext, gettext_lazy

from portal import invited
from portal.fields import NameField
from portal.room_words import choices_of
from tenants import actions
from tenants.models import Organization, ScreeningPolicy, User


class SignupForm(AllauthSignupForm):  # type: ignore[misc]
    """A person and their organization, created together or not at all."""

    organization = NameField(
        label=gettext_lazy("Organization name"),
        help_text=gettext_lazy("Your company or team. You can change it later."),
        widget=forms.TextInput(attrs={"autocomplete": "organization"}),
    )
    field_order = ("email", "organization", "password1", "password2")

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.invitation = invited.invitation_of(context.request)
        if self.invitation is not None:
            # Whoever is invited joins that organization, by the address that was asked.
            del self.fields["organization"]
            self.fields["email"].initial = self.invitation.email
            self.fields["email"].disabled = True

    def get_initial_for_field(self, field: forms.Field, field_name: str) -> Any:
        """``?email=`` in the address must not stand in for the invited one."""
        if field_name == "email" and self.invitation is not None:
            return self.invitation.email
        return super().get_initial_for_field(field, field_name)

    @transaction.atomic
    def save(self, request: HttpRequest) -> User:
        if self.invitation is not None:
            return self._join(request)
        user: User = super().save(request)
        actions.create_organization(
            self.cleaned_data["organization"],
            acting_user=user,
            address=request.META.get("REMOTE_ADDR") or None,
        )
        return user

    def _join(self, request: HttpRequest) -> User:
        """The link came by mail to this address, so it is confirmed with it."""
        assert self.invitation is not None
        get_adapter().stash_verified_email(request, self.invitation.email)
        user: User = super().save(request)
        invited.accept(request, user)
        return user

    def try_save(self, request: HttpRequest) -> tuple[User | None, HttpResponse | None]:
        try:
            result: tuple[User | None, HttpResponse | None] = super().try_save(request)
        except IntegrityError:
            # Two submissions of the same form: the other one has just made the account.
            messages.info(request, gettext("Please log in to continue."))
            return None, redirect("account_login")
        return result


class OrganizationForm(forms.Form):
    name = NameField(label=gettext_lazy("Organization name"))


class SettingsForm(forms.Form):
    name = NameField(label=gettext_lazy("Organization name"))
    screening_policy = forms.ChoiceField(
        label=gettext_lazy("Content screening"),
        choices=choices_of(ScreeningPolicy),
        help_text=gettext_lazy(
            "What happens when a prompt or an answer falls into a screened category."
        ),
    )
    answers_kept_days = forms.IntegerField(
        label=gettext_lazy("Days that answers are kept"),
        required=False,
        min_value=0,
        max_value=365,
        help_text=gettext_lazy(
            "Responses, and chat completions that ask for it, are kept encrypted for so "
            "long; 0 keeps none, and forgets those that are there."
        ),
    )

    def __init__(self, *args: Any, organization: Organization, **kwargs: Any):
        self.organization = organization
        kwargs["initial"] = {name: getattr(organization, name) for name in self.base_fields}
        super().__init__(*args, **kwargs)

    def clean_answers_kept_days(self) -> int:
        """Left empty it stays as it is."""
        days = self.cleaned_data["answers_kept_days"]
        return self.organization.answers_kept_days if days is None else int(days)

    @property
    def changes(self) -> dict[str, Any]:
        """Only what differs from the organization as it is."""
        return {
            name: value
            for name, value in self.cleaned_data.items()
            if value != getattr(self.organization, name)
        }
