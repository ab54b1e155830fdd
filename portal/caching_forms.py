"""An organization's terms for answers that are given twice."""

from __future__ import annotations

from typing import Any

from django import forms

from inference.semantic_cache import DEFAULT_THRESHOLD
from tenants.models import Organization, SemanticCache

LIFETIMES = {
    60: "1 minute",
    600: "10 minutes",
    3_600: "1 hour",
    14_400: "4 hours",
    86_400: "1 day",
}


class CachingForm(forms.Form):
    response_cache_ttl_s = forms.TypedChoiceField(
        label="Response cache",
        coerce=int,
        help_text=(
            "How long an exact answer to a deterministic request (temperature 0 or a seed) is kept "
            "for your organization. A repeated request is then answered from the cache."
        ),
    )
    semantic_cache = forms.ChoiceField(
        label="Semantic cache",
        choices=SemanticCache.choices,
        help_text=(
            "Whether a question may be given the answer to one that means the same. Such an "
            "answer can be wrong: turn it on where that is better than waiting and paying. "
            "Requests ask with the header <code>x-sluice-cache: semantic</code>."
        ),
    )
    semantic_cache_ttl_s = forms.TypedChoiceField(label="Semantic answers are kept", coerce=int)
    semantic_cache_threshold = forms.FloatField(
        label="Least similarity",
        required=False,
        min_value=0.5,
        max_value=1.0,
        widget=forms.NumberInput(attrs={"step": "0.01", "placeholder": str(DEFAULT_THRESHOLD)}),
        help_text=(
            f"0.5 to 1. Lower finds more, and more that is wrong. Empty is {DEFAULT_THRESHOLD}."
        ),
    )

    def __init__(self, *args: Any, organization: Organization, **kwargs: Any):
        self.organization = organization
        kwargs["initial"] = {name: getattr(organization, name) for name in self.base_fields}
        super().__init__(*args, **kwargs)
        self._offer("response_cache_ttl_s", {0: "Off"} | LIFETIMES)
        self._offer("semantic_cache_ttl_s", LIFETIMES)

    def _offer(self, name: str, lifetimes: dict[int, str]) -> None:
        # Others may have set a lifetime that the list does not offer; saving must keep it.
        current = getattr(self.organization, name)
        choices = lifetimes | {current: lifetimes.get(current, f"{current} seconds")}
        self.fields[name].choices = sorted(choices.items())  # type: ignore[attr-defined]

    @property
    def changes(self) -> dict[str, Any]:
        """Only what differs from the organization as it is."""
        return {
            name: value
            for name, value in self.cleaned_data.items()
            if value != getattr(self.organization, name)
        }
