"""Forms about projects. They parse and explain; the rooms decide."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext, gettext_lazy

from portal.fields import LIMIT_NAMES, LimitsMixin, ModelsField, NameField
from portal.room_words import choices_of
from tenants.models import LimitFields, Project, ProjectRole


class ProjectFilter(forms.Form):
    q = forms.CharField(
        label=gettext_lazy("Search"),
        required=False,
        max_length=120,
        widget=forms.TextInput(
            attrs={
                "type": "search",
                "placeholder": gettext_lazy("Name or ID"),
                "autocomplete": "off",
            }
        ),
    )


class ProjectNameForm(forms.Form):
    name = NameField(
        label=gettext_lazy("Name"),
        help_text=gettext_lazy(
            "A product, a team or an environment, for example “Search, production”."
        ),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class ProjectForm(ProjectNameForm):
    allowed_models = ModelsField(
        label=gettext_lazy("Allowed models"),
        help_text=gettext_lazy("None chosen: every model that is not denied."),
    )
    denied_models = ModelsField(
        label=gettext_lazy("Denied models"),
        help_text=gettext_lazy("Refused to every key of this project."),
    )

    def __init__(self, *args: Any, models: list[str], project: Project, **kwargs: Any):
        kwargs["initial"] = {name: getattr(project, name) for name in self.base_fields}
        super().__init__(*args, **kwargs)
        for name in ("allowed_models", "denied_models"):
            field = self.fields[name]
            assert isinstance(field, ModelsField)
            field.offer(models, getattr(project, name))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        both = set(cleaned.get("allowed_models", ())) & set(cleaned.get("denied_models", ()))
        if both:
            raise ValidationError(
                gettext("Both allowed and denied: %(names)s.") % {"names": ", ".join(sorted(both))}
            )
        return cleaned


class LimitsForm(LimitsMixin):
    """Limits of a project, or with ``limits_of`` a row of limits that exists."""

    def __init__(self, *args: Any, limits_of: LimitFields | None = None, **kwargs: Any):
        if limits_of is not None:
            kwargs["initial"] = {name: getattr(limits_of, name) for name in LIMIT_NAMES}
        super().__init__(*args, **kwargs)


class ModelLimitsForm(LimitsForm):
    """What the project may use of one model; all fields empty ends the limit."""

    model = forms.ChoiceField(label=gettext_lazy("Model"))
    field_order = ("model",)

    def __init__(self, *args: Any, models: list[str], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.fields["model"].choices = [(name, name) for name in models]  # type: ignore[attr-defined]


class PersonForm(forms.Form):
    """Somebody of the organization, by address; the page offers addresses to choose from."""

    email = forms.EmailField(
        label=gettext_lazy("Member’s e-mail"),
        widget=forms.EmailInput(attrs={"autocomplete": "off", "list": "people"}),
    )


class ProjectMemberForm(PersonForm):
    role = forms.ChoiceField(
        label=gettext_lazy("Role"), choices=choices_of(ProjectRole), initial=ProjectRole.MEMBER
    )


class ProjectRoleForm(forms.Form):
    role = forms.ChoiceField(label=gettext_lazy("Role"), choices=choices_of(ProjectRole))


class ServiceAccountForm(forms.Form):
    name = NameField(
        label=gettext_lazy("Name"),
        help_text=gettext_lazy("The program, for example “nightly-indexer”."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )


class TypedNameForm(forms.Form):
    """What cannot be undone asks for the name of what it is done to."""

    typed = forms.CharField(
        label=gettext_lazy("Type the name to confirm"),
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, name: str, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.name = name
        self.fields["typed"].label = f"Type “{name}” to confirm"

    def clean_typed(self) -> str:
        typed: str = self.cleaned_data["typed"]
        if typed != self.name.strip():
            raise ValidationError(gettext("This is not the name."))
        return typed
