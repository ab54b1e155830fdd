"""What a usage page is asked for: the filter of charts and of the list of requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.analysis import Asked
from billing.models import UsageEvent
from inference import selectors as inference
from portal.fields import QuickSelect
from portal.periods import Period
from tenants import selectors
from tenants.models import Organization

# Offered by name; any other is filtered by through the links of a table.
MOST_OFFERED = 200
WITHOUT_KEY = "portal"
STATUSES = {
    UsageEvent.Status.COMPLETED: gettext_lazy("Completed"),
    UsageEvent.Status.CANCELLED: gettext_lazy("Client went away"),
    UsageEvent.Status.FAILED: gettext_lazy("Failed"),
    UsageEvent.Status.BLOCKED: gettext_lazy("Blocked by screening"),
}

Choices = list[tuple[str, str]]


class UsageFilter(forms.Form):
    """Projects, keys, models and people by their public ids; what is wrong filters nothing."""

    project = forms.ChoiceField(label=gettext_lazy("Project"), required=False, widget=QuickSelect)
    key = forms.ChoiceField(label=gettext_lazy("API key"), required=False, widget=QuickSelect)
    model = forms.ChoiceField(label=gettext_lazy("Model"), required=False, widget=QuickSelect)
    user = forms.ChoiceField(label=gettext_lazy("User"), required=False, widget=QuickSelect)

    def __init__(self, data: Any, *, organization: Organization):
        super().__init__(data)
        self.organization = organization
        self._numbers: dict[tuple[str, str], int] = {}
        self._offer("project", _("Every project"), self._projects())
        self._offer("key", _("Every key"), self._keys(self.data.get("key", "")))
        self._offer("model", _("Every model"), self._models(self.data.get("model", "")))
        self._offer("user", _("Everybody"), self._users())

    def _offer(self, name: str, all_of_them: str, choices: list[Any]) -> None:
        self.fields[name].choices = [("", all_of_them), *choices]  # type: ignore[attr-defined]

    def _projects(self) -> Choices:
        found = selectors.get_projects(self.organization)[:MOST_OFFERED]
        return self._known("project", ((row.pk, row.public_id, row.name) for row in found))

    def _keys(self, chosen: str) -> Choices:
        found = selectors.get_keys_to_choose(self.organization, chosen, MOST_OFFERED)
        named = ((row.pk, row.public_id, f"{row.name} …{row.last_four}") for row in found)
        return self._known("key", named)

    def _models(self, chosen: str) -> Choices:
        """Those served now; one that was served once is still asked for by its name."""
        names = inference.get_model_names()
        if chosen and len(chosen) <= 120 and chosen not in names:
            names = [*names, chosen]
        return [(name, name) for name in names]

    def _users(self) -> list[Any]:
        accounts = selectors.get_service_account_choices(self.organization)[:MOST_OFFERED]
        members = selectors.get_members(self.organization)[:MOST_OFFERED]
        people = ((each.user_id, each.user.public_id, each.user.email) for each in members)
        programs = ((row.pk, row.public_id, row.name) for row in accounts)
        groups = [
            (_("Members"), [*self._known("member", people), (WITHOUT_KEY, _("In the portal"))]),
            (_("Service accounts"), self._known("account", programs)),
        ]
        return [group for group in groups if group[1]]

    def _known(self, kind: str, rows: Iterable[tuple[int, str, str]]) -> Choices:
        choices = []
        for number, public_id, label in rows:
            self._numbers[kind, public_id] = number
            choices.append((public_id, label))
        return choices

    @property
    def chosen(self) -> dict[str, str]:
        """What is asked for, as the address carries it; what cannot be read is left out."""
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value}

    def asked(self, period: Period) -> Asked:
        chosen = self.chosen
        user = chosen.get("user", "")
        return Asked(
            self.organization,
            period.start,
            period.end,
            project=self._numbers.get(("project", chosen.get("project", ""))),
            api_key=self._numbers.get(("key", chosen.get("key", ""))),
            model=chosen.get("model", ""),
            status=chosen.get("status", ""),
            service_account=self._numbers.get(("account", user)),
            creator=self._numbers.get(("member", user)),
            is_without_key=user == WITHOUT_KEY,
        )


class RequestFilter(UsageFilter):
    status = forms.ChoiceField(
        label=gettext_lazy("Status"),
        required=False,
        choices=[("", gettext_lazy("Any status")), *STATUSES.items()],
    )
    q = forms.CharField(
        label=gettext_lazy("Request ID"),
        required=False,
        max_length=40,
        widget=forms.TextInput(
            attrs={"type": "search", "placeholder": "req_…", "autocomplete": "off"}
        ),
    )
