"""Forms of webhook endpoints."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from portal.room_words import in_words
from tenants.actions import EndpointTerms
from tenants.models import WebhookEndpoint
from tenants.outbound import LONGEST_URL
from tenants.webhooks import TYPES

GROUPS: dict[str, Promise] = {
    "batch": gettext_lazy("Batches"),
    "response": gettext_lazy("Background responses"),
    "budget": gettext_lazy("Budgets"),
    "api_key": gettext_lazy("API keys"),
}


class WebhookForm(forms.Form):
    form_id = forms.CharField(widget=forms.HiddenInput, required=False)  # of new ones only
    url = forms.CharField(
        label=gettext_lazy("URL"),
        max_length=LONGEST_URL,
        help_text=gettext_lazy(
            "An https:// address on the public internet. Events are sent to it by POST."
        ),
        widget=forms.TextInput(
            attrs={
                "inputmode": "url",
                "autocomplete": "off",
                "spellcheck": "false",
                "placeholder": "https://example.com/hooks/sluice",
            }
        ),
    )
    description = forms.CharField(
        label=gettext_lazy("Description"),
        max_length=200,
        required=False,
        help_text=gettext_lazy("Optional; for your people."),
    )
    events = forms.MultipleChoiceField(
        choices=[(name, name) for name in TYPES], widget=forms.CheckboxSelectMultiple
    )

    @property
    def event_groups(self) -> list[tuple[str | Promise, list[dict[str, Any]]]]:
        """The choices with their words, in the order of ``TYPES``."""
        chosen = set(self["events"].value() or ())
        return [
            (
                title,
                [
                    {"name": name, "words": in_words(words), "is_on": name in chosen}
                    for name, words in TYPES.items()
                    if name.startswith(f"{group}.")
                ],
            )
            for group, title in GROUPS.items()
        ]

    def terms(self, *, is_enabled: bool = True) -> EndpointTerms:
        given = self.cleaned_data
        return EndpointTerms(given["url"], tuple(given["events"]), given["description"], is_enabled)


class RotateSecretForm(forms.Form):
    overlap = forms.TypedChoiceField(
        label=gettext_lazy("The secret before"),
        coerce=int,
        choices=[
            (24, gettext_lazy("signs too for 24 hours")),
            (168, gettext_lazy("signs too for 7 days")),
            (0, gettext_lazy("stops signing now")),
        ],
        initial=24,
        help_text=gettext_lazy("While both sign, your receiver can change over at any moment."),
    )

    @property
    def duration(self) -> timedelta:
        return timedelta(hours=self.cleaned_data["overlap"])


def initial_of(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "url": endpoint.url,
        "description": endpoint.description,
        "events": endpoint.events,
    }
