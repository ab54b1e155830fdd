"""Forms about API keys. They parse and explain; the rooms decide."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_lazy

from portal.fields import (
    BUDGET,
    LIMIT_NAMES,
    LIMITS,
    LimitsMixin,
    ModelsField,
    NameField,
    NetworksField,
    QuickSelect,
)
from portal.key_status import LABELS
from portal.permission_choice import PermissionsMixin
from portal.permission_words import SCOPES
from tenants.actions import KeyTerms
from tenants.models import ApiKey, Project, ServiceAccount

ON_A_DATE = "date"
KEEP = "keep"
EXPIRIES: dict[str, tuple[Promise, timedelta | None]] = {
    "": (gettext_lazy("Never"), None),
    "7": (gettext_lazy("In 7 days"), timedelta(days=7)),
    "30": (gettext_lazy("In 30 days"), timedelta(days=30)),
    "90": (gettext_lazy("In 90 days"), timedelta(days=90)),
    "365": (gettext_lazy("In a year"), timedelta(days=365)),
    ON_A_DATE: (gettext_lazy("At the end of a day …"), None),
}
# Whoever means longer means never.
LONGEST_LIFE = timedelta(days=3_653)


def _written(moment: datetime) -> str:
    return date_format(moment.astimezone(UTC), "j M Y, H:i")


class ExpiryMixin(forms.Form):
    expires = forms.ChoiceField(label=gettext_lazy("Expires"), required=False)
    expires_on = forms.DateField(
        label=gettext_lazy("Last day (UTC)"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )

    def __init__(self, *args: Any, current: datetime | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.current_expiry = current
        choices: dict[str, str | Promise] = {value: label for value, (label, _) in EXPIRIES.items()}
        if current is not None:
            choices = {
                KEEP: gettext("As now: %(time)s UTC") % {"time": _written(current)},
                **choices,
            }
        self.fields["expires"].choices = list(choices.items())  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("expires") == ON_A_DATE and "expires_on" not in self.errors:
            self._check_day(cleaned.get("expires_on"))
        return cleaned

    def _check_day(self, day: date | None) -> None:
        today = timezone.now().date()
        if day is None:
            self.add_error("expires_on", gettext("Choose the key’s last day."))
        elif day < today:
            self.add_error("expires_on", gettext("This day has passed."))
        elif day > today + LONGEST_LIFE:
            self.add_error("expires_on", gettext("At most ten years ahead."))

    @property
    def expires_at(self) -> datetime | None:
        chosen = self.cleaned_data.get("expires") or ""
        if chosen == KEEP:
            return self.current_expiry
        if chosen == ON_A_DATE:
            following = self.cleaned_data["expires_on"] + timedelta(days=1)
            return datetime.combine(following, time(), UTC)
        lifetime = EXPIRIES[chosen][1]
        return timezone.now() + lifetime if lifetime else None


class KeyTermsForm(ExpiryMixin, LimitsMixin):
    """What a key that infers may do. For a key that exists, ``key`` fills it in."""

    name = NameField(
        label=gettext_lazy("Name"),
        help_text=gettext_lazy("What will use it, for example “staging backend”."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("May do"),
        required=False,
        choices=[(word.name, word.label) for word in SCOPES],
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None chosen: everything that a key can do."),
    )
    allowed_models = ModelsField(
        label=gettext_lazy("Models"), help_text=gettext_lazy("None chosen: every model.")
    )
    allowed_networks = NetworksField(
        label=gettext_lazy("Networks"),
        help_text=gettext_lazy(
            "Addresses or networks from which it may be used, one a line. Empty: all."
        ),
    )
    field_order = ("form_id", "name", "owner", "expires", "expires_on")

    def __init__(self, *args: Any, models: list[str], key: ApiKey | None = None, **kwargs: Any):
        if key is not None:
            names = ("name", "scopes", "allowed_models", "allowed_networks", *LIMIT_NAMES)
            kwargs["initial"] = {name: getattr(key, name) for name in names}
            kwargs["initial"]["expires"] = KEEP if key.expires_at else ""
            kwargs["current"] = key.expires_at
        super().__init__(*args, **kwargs)
        field = self.fields["allowed_models"]
        assert isinstance(field, ModelsField)
        field.offer(models, key.allowed_models if key else [])

    @property
    def has_advanced(self) -> bool:
        """Whether the folded part holds anything, or anything wrong."""
        names = ("scopes", "allowed_models", "allowed_networks", *LIMITS, BUDGET)
        return any(
            self[name].value() not in (None, "", [], ()) or self[name].errors for name in names
        )

    @property
    def terms(self) -> KeyTerms:
        cleaned = self.cleaned_data
        return KeyTerms(
            scopes=tuple(cleaned["scopes"]),
            allowed_models=tuple(cleaned["allowed_models"]),
            allowed_networks=cleaned["allowed_networks"],
            expires_at=self.expires_at,
            limits=self.limits,
        )


_PROJECTS = gettext_lazy("Projects")
_ACCOUNTS = gettext_lazy("Service accounts")


class OwnerField(forms.ChoiceField):
    """A project, or a service account of one, by public id."""

    widget = QuickSelect

    def offer(self, projects: Iterable[Project], accounts: Iterable[ServiceAccount]) -> None:
        self.owners: dict[str, Project | ServiceAccount] = {}
        groups: dict[Promise, list[tuple[str, str]]] = {_PROJECTS: [], _ACCOUNTS: []}
        for project in projects:
            self.owners[project.public_id] = project
            groups[_PROJECTS].append((project.public_id, project.name))
        for account in accounts:
            self.owners[account.public_id] = account
            label = f"{account.name} · {account.project.name}"
            groups[_ACCOUNTS].append((account.public_id, label))
        self.choices = [(label, listed) for label, listed in groups.items() if listed]

    def clean(self, value: Any) -> Project | ServiceAccount:
        return self.owners[super().clean(value)]


class KeyForm(KeyTermsForm):
    form_id = forms.CharField(max_length=200, widget=forms.HiddenInput)
    owner = OwnerField(
        label=gettext_lazy("Belongs to"),
        help_text=gettext_lazy(
            "A project’s key is yours and ends when you leave; a service account’s stays."
        ),
    )

    def __init__(
        self,
        *args: Any,
        projects: Iterable[Project],
        accounts: Iterable[ServiceAccount] = (),
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        field = self.fields["owner"]
        assert isinstance(field, OwnerField)
        field.offer(projects, accounts)


class AdminKeyForm(PermissionsMixin, ExpiryMixin):
    """An admin key carries permissions; those that the acting person has are offered."""

    form_id = forms.CharField(max_length=200, widget=forms.HiddenInput, required=False)
    name = NameField(
        label=gettext_lazy("Name"),
        help_text=gettext_lazy("The program that manages, for example “terraform”."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    allowed_networks = NetworksField(
        label=gettext_lazy("Networks"),
        help_text=gettext_lazy("Where it may be used from, one a line. Empty: everywhere."),
    )

    def __init__(self, *args: Any, held: frozenset[str], key: ApiKey | None = None, **kwargs: Any):
        if key is not None:
            kwargs["initial"] = {
                "name": key.name,
                "permissions": key.scopes or sorted(held),
                "allowed_networks": key.allowed_networks,
                "expires": KEEP if key.expires_at else "",
            }
            kwargs["current"] = key.expires_at
        super().__init__(*args, held=held, **kwargs)

    @property
    def terms(self) -> KeyTerms:
        return KeyTerms(
            scopes=tuple(self.cleaned_data["permissions"]),
            allowed_networks=self.cleaned_data["allowed_networks"],
            expires_at=self.expires_at,
        )


OVERLAPS: dict[str, tuple[Promise, timedelta]] = {
    "0": (gettext_lazy("No time: it stops working now"), timedelta(0)),
    "3600": (gettext_lazy("One more hour"), timedelta(hours=1)),
    "86400": (gettext_lazy("One more day"), timedelta(days=1)),
    "604800": (gettext_lazy("Seven more days"), timedelta(days=7)),
}


class RotateForm(forms.Form):
    overlap = forms.ChoiceField(
        label=gettext_lazy("The old secret keeps working for"),
        choices=[(value, label) for value, (label, _) in OVERLAPS.items()],
        widget=forms.RadioSelect,
        initial="86400",
    )
    # When the key that the form was shown for was rotated last: sent twice, the form
    # would end at once the secret that still had to work.
    seen = forms.CharField(required=False, max_length=40, widget=forms.HiddenInput)

    def __init__(self, *args: Any, key: ApiKey, **kwargs: Any):
        self.state = key.rotated_at.isoformat() if key.rotated_at else ""
        kwargs["initial"] = {"overlap": "86400", "seen": self.state}
        super().__init__(*args, **kwargs)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("seen", "") != self.state:
            raise ValidationError(
                gettext(
                    "This key was rotated after the form was shown. If that was you, its new secret "
                    "was in the first answer; if you did not copy it, rotate once more."
                ),
                code="stale",
            )
        return cleaned

    @property
    def chosen(self) -> timedelta:
        return OVERLAPS[self.cleaned_data["overlap"]][1]


class SuspendForm(forms.Form):
    reason = NameField(
        label=gettext_lazy("Reason"),
        required=False,
        max_length=200,
        help_text=gettext_lazy("Shown with the key. Optional."),
    )


class KeyFilter(forms.Form):
    q = forms.CharField(
        label=gettext_lazy("Search"),
        required=False,
        max_length=120,
        widget=forms.TextInput(
            attrs={
                "type": "search",
                "placeholder": gettext_lazy("Name, last four or ID"),
                "autocomplete": "off",
            }
        ),
    )
    project = forms.ChoiceField(label=gettext_lazy("Project"), required=False, widget=QuickSelect)
    state = forms.ChoiceField(
        label=gettext_lazy("Status"),
        required=False,
        choices=[("", gettext_lazy("Any status")), *LABELS.items()],
    )

    def __init__(self, *args: Any, projects: Iterable[Project], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.projects = {project.public_id: project.pk for project in projects}
        names = [(project.public_id, project.name) for project in projects]
        self.fields["project"].choices = [("", gettext("Every project")), *names]  # type: ignore[attr-defined]
