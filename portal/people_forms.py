"""Forms about people: members, invitations, groups, roles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.translation import gettext, gettext_lazy

from portal.fields import NameField, QuickSelect
from portal.permission_choice import PermissionsMixin
from portal.project_forms import PersonForm
from portal.room_words import choices_of
from tenants.models import CustomRole, Group, Project, ProjectRole, Role

ROLE_HELP: dict[str, Promise] = {
    Role.OWNER: gettext_lazy("Everything, money and other owners included."),
    Role.ADMIN: gettext_lazy("Everything but the money."),
    Role.BILLING: gettext_lazy("Usage, invoices, payment and the audit log; no keys."),
    Role.DEVELOPER: gettext_lazy("Creates and revokes keys, sees usage."),
    Role.VIEWER: gettext_lazy("Looks and changes nothing."),
}


class RoleField(forms.ChoiceField):
    """Roles that the acting person may give, with what each allows."""

    def __init__(self, **kwargs: Any):
        defaults: dict[str, Any] = {"label": gettext_lazy("Role"), "widget": forms.RadioSelect}
        super().__init__(**(defaults | kwargs))

    def offer(self, roles: Iterable[str]) -> None:
        names = dict(choices_of(Role))
        self.choices = [
            (role, format_html("{} <span>{}</span>", names[role], ROLE_HELP[role]))
            for role in roles
        ]


class MemberRoleForm(forms.Form):
    role = RoleField()

    def __init__(self, *args: Any, roles: Iterable[str], **kwargs: Any):
        super().__init__(*args, **kwargs)
        field = self.fields["role"]
        assert isinstance(field, RoleField)
        field.offer(roles)


class InviteForm(MemberRoleForm):
    email = forms.EmailField(
        label=gettext_lazy("E-mail"),
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
    )
    projects = forms.MultipleChoiceField(
        label=gettext_lazy("Projects"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("Optional: where they get a role of their own as they join."),
    )
    project_role = forms.ChoiceField(
        label=gettext_lazy("Role in these projects"),
        choices=choices_of(ProjectRole),
        initial=ProjectRole.MEMBER,
    )
    field_order = ("email", "role")

    def __init__(self, *args: Any, projects: Iterable[Project], **kwargs: Any):
        super().__init__(*args, **kwargs)
        choices = [(project.public_id, project.name) for project in projects]
        self.fields["projects"].choices = choices  # type: ignore[attr-defined]
        if not choices:
            del self.fields["projects"], self.fields["project_role"]

    @property
    def chosen_projects(self) -> list[dict[str, str]]:
        role = self.cleaned_data.get("project_role", "")
        return [{"id": pk, "role": role} for pk in self.cleaned_data.get("projects", ())]


class MemberFilter(forms.Form):
    q = forms.CharField(
        label=gettext_lazy("Search"),
        required=False,
        max_length=120,
        widget=forms.TextInput(
            attrs={
                "type": "search",
                "placeholder": gettext_lazy("Name or e-mail"),
                "autocomplete": "off",
            }
        ),
    )


class GroupForm(forms.Form):
    name = NameField(
        label=gettext_lazy("Name"),
        help_text=gettext_lazy("For example “Data science”."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class GroupMemberForm(PersonForm):
    pass


class RoleForm(PermissionsMixin):
    name = NameField(
        label=gettext_lazy("Name"),
        max_length=80,
        help_text=gettext_lazy("For example “Key rotation”."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    description = forms.CharField(
        label=gettext_lazy("Description"),
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def __init__(self, *args: Any, role: CustomRole | None = None, **kwargs: Any):
        if role is not None:
            names = ("name", "description", "permissions")
            kwargs["initial"] = {name: getattr(role, name) for name in names}
        super().__init__(*args, **kwargs)


class AssignForm(forms.Form):
    """To a group, or to a person by address; everywhere or in one project."""

    group = forms.ChoiceField(label=gettext_lazy("To a group"), required=False, widget=QuickSelect)
    email = forms.EmailField(
        label=gettext_lazy("Or to a person, by e-mail"),
        required=False,
        widget=forms.EmailInput(attrs={"autocomplete": "off", "list": "people"}),
    )
    project = forms.ChoiceField(label=gettext_lazy("Where"), required=False, widget=QuickSelect)

    def __init__(
        self, *args: Any, groups: Iterable[Group], projects: Iterable[Project], **kwargs: Any
    ):
        super().__init__(*args, **kwargs)
        self.groups = {group.public_id: group for group in groups}
        self.projects = {project.public_id: project for project in projects}
        self._offer("group", gettext("No group"), self.groups)
        self._offer("project", gettext("Everywhere"), self.projects)

    def _offer(self, name: str, empty: str, objects: dict[str, Any]) -> None:
        choices = [("", empty), *((pk, each.name) for pk, each in objects.items())]
        self.fields[name].choices = choices  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if "email" not in self.errors and bool(cleaned.get("group")) == bool(cleaned.get("email")):
            self.add_error("email", gettext("Choose a group or a person, one of the two."))
        return cleaned
