"""An organization's terms for answers that are given twice."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_lazy

from inference.semantic_cache import DEFAULT_THRESHOLD
from portal.room_words import choices_of
from portal.templatetags.portal import thousands
from tenants.models import Organization, SemanticCache

LIFETIMES: dict[int, str | Promise] = {
    60: gettext_lazy("1 minute"),
    600: gettext_lazy("10 minutes"),
    3_600: gettext_lazy("1 hour"),
    14_400: gettext_lazy("4 hours"),
    86_400: gettext_lazy("1 day"),
}


class CachingForm(forms.Form):
    response_cache_ttl_s = forms.TypedChoiceField(
        label=gettext_lazy("Response cache"),
        coerce=int,
        help_text=gettext_lazy(
            "How long an exact answer to a deterministic request (temperature 0 or a seed) is "
            "kept for your organization. A repeated request is then answered from the cache."
        ),
    )
    semantic_cache = forms.ChoiceField(
        label=gettext_lazy("Semantic cache"),
        choices=choices_of(SemanticCache),
        help_text=gettext_lazy(
            "Whether a question may be given the answer to one that means the same. Such an "
            "answer can be wrong: turn it on where that is better than waiting and paying. "
            "Requests ask with the header <code>x-sluice-cache: semantic</code>."
        ),
    )
    semantic_cache_ttl_s = forms.TypedChoiceField(
        label=gettext_lazy("Semantic answers are kept"), coerce=int
    )
    semantic_cache_threshold = forms.FloatField(
        label=gettext_lazy("Least similarity"),
        required=False,
        min_value=0.5,
        max_value=1.0,
        widget=forms.NumberInput(attrs={"step": "0.01", "placeholder": str(DEFAULT_THRESHOLD)}),
        help_text=gettext_lazy(
            "0.5 to 1. Lower finds more, and more that is wrong. Empty is the default."
        ),
    )

    def __init__(self, *args: Any, organization: Organization, **kwargs: Any):
        self.organization = organization
        kwargs["initial"] = {name: getattr(organization, name) for name in self.base_fields}
        super().__init__(*args, **kwargs)
        self._offer("response_cache_ttl_s", {0: gettext_lazy("Off"), **LIFETIMES})
        self._offer("semantic_cache_ttl_s", LIFETIMES)

    def _offer(self, name: str, lifetimes: dict[int, str | Promise]) -> None:
        # Others may have set a lifetime that the list does not offer; saving must keep it.
        current = getattr(self.organization, name)
        other = gettext("%(seconds)s seconds") % {"seconds": thousands(current)}
        choices = lifetimes | {current: lifetimes.get(current, other)}
        self.fields[name].choices = sorted(choices.items())  # type: ignore[attr-defined]

    @property
    def changes(self) -> dict[str, Any]:
        """Only what differs from the organization as it is."""
        return {
            name: value
            for name, value in self.cleaned_data.items()
            if value != getattr(self.organization, name)
        }
