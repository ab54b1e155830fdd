"""Permissions as a form offers them: in groups, and no more than the acting person has."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from portal.permission_words import PERMISSION_LABELS, PERMISSIONS


class PermissionsMixin(forms.Form):
    permissions = forms.MultipleChoiceField(
        label=gettext_lazy("Permissions"),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": gettext_lazy("Choose at least one.")},
    )

    def __init__(self, *args: Any, held: frozenset[str], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.held = held
        offered = [item for item in PERMISSION_LABELS.items() if item[0] in held]
        self.fields["permissions"].choices = offered  # type: ignore[attr-defined]

    @property
    def permission_groups(self) -> list[tuple[str | Promise, list[dict[str, Any]]]]:
        """What the acting person lacks is shown too, so that nobody wonders where it went."""
        chosen = frozenset(self["permissions"].value() or ())
        return [
            (
                title,
                [
                    {"word": word, "is_held": word.name in self.held, "is_on": word.name in chosen}
                    for word in words
                ],
            )
            for title, words in PERMISSIONS.items()
        ]
