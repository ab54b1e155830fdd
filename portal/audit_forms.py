"""What of the audit trail is asked for: the filter's form, as the room's filters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext, gettext_lazy

from portal.audit_words import ACTIONS
from portal.fields import QuickSelect
from tenants.audit_events import AuditFilters
from tenants.models import AuditEvent, Project

# What stands for a kind of actor where an address or an id could.
KINDS_OF_ACTOR = {
    "staff": AuditEvent.Actor.STAFF,
    "the platform": AuditEvent.Actor.SYSTEM,
    "platform": AuditEvent.Actor.SYSTEM,
    "programs": AuditEvent.Actor.API_KEY,
}
_ID = re.compile(r"(user|key)_[0-9A-Za-z]{1,40}")


def _day(label: Any) -> forms.DateField:
    widget = forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    return forms.DateField(label=label, required=False, widget=widget)


class AuditFilter(forms.Form):
    actor = forms.CharField(
        label=gettext_lazy("Actor"),
        required=False,
        max_length=254,
        widget=forms.TextInput(
            attrs={
                "placeholder": gettext_lazy("E-mail or ID"),
                "autocomplete": "off",
                "list": "actors",
            }
        ),
    )
    action = forms.ChoiceField(label=gettext_lazy("Action"), required=False, widget=QuickSelect)
    object = forms.CharField(
        label=gettext_lazy("Object"),
        required=False,
        max_length=60,
        widget=forms.TextInput(attrs={"placeholder": gettext_lazy("ID"), "autocomplete": "off"}),
    )
    project = forms.ChoiceField(label=gettext_lazy("Project"), required=False, widget=QuickSelect)
    since = _day(gettext_lazy("From"))
    until = _day(gettext_lazy("To"))

    def __init__(self, *args: Any, projects: Iterable[Project], **kwargs: Any):
        super().__init__(*args, **kwargs)
        groups = [
            (f"group:{label}", gettext("Anything: %(kind)s") % {"kind": gettext(label)})
            for label in ACTIONS
        ]
        actions = [(gettext(label), list(known.items())) for label, known in ACTIONS.items()]
        self._offer(
            "action", [("", gettext("Every action")), (gettext("All of a kind"), groups), *actions]
        )
        names = [(project.public_id, project.name) for project in projects]
        self._offer("project", [("", gettext("Every project")), *names])

    def _offer(self, name: str, choices: list[Any]) -> None:
        self.fields[name].choices = choices  # type: ignore[attr-defined]

    def clean_actor(self) -> str:
        actor: str = self.cleaned_data["actor"].strip()
        is_known = actor.lower() in KINDS_OF_ACTOR or "@" in actor or _ID.fullmatch(actor)
        if actor and not is_known:
            raise ValidationError(
                gettext("Give a whole e-mail address, an ID, “staff” or “programs”.")
            )
        return actor

    @property
    def chosen(self) -> dict[str, str]:
        """What is asked for, as the address carries it; what cannot be read is left out."""
        return {name: self.data[name] for name, value in self.cleaned_data.items() if value}

    @property
    def filters(self) -> AuditFilters:
        asked = self.cleaned_data
        until: date | None = asked.get("until")
        return AuditFilters(
            actions=self._actions(asked.get("action", "")),
            projects=_one(asked.get("project")),
            object_ids=_one(asked.get("object")),
            since=_midnight(asked.get("since")),
            # The last day is meant with its evening.
            until=_midnight(until + timedelta(days=1) if until and until < date.max else None),
            **_actor(asked.get("actor", "")),
        )

    def _actions(self, chosen: str) -> tuple[str, ...]:
        kind, _, label = chosen.partition(":")
        return tuple(ACTIONS[label]) if kind == "group" else _one(chosen)


def _actor(text: str) -> dict[str, tuple[str, ...]]:
    if text.lower() in KINDS_OF_ACTOR:
        return {"actor_types": (KINDS_OF_ACTOR[text.lower()],)}
    if "@" in text:
        return {"actor_emails": (text,)}
    return {"actor_ids": _one(text)}


def _one(text: str | None) -> tuple[str, ...]:
    return (text,) if text else ()


def _midnight(day: date | None) -> datetime | None:
    return datetime.combine(day, time(), UTC) if day else None
