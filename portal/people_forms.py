"""Forms about people: members, invitations, groups, roles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.utils.html import format_html

from portal.fields import NameField, QuickSelect
from portal.permission_choice import PermissionsMixin
from portal.project_forms import PersonForm
from tenants.models import CustomRole, Group, Project, ProjectRole, Role

ROLE_HELP: dict[str, str] = {
    Role.OWNER: "Everything, money and other owners included.",
    Role.ADMIN: "Everything but the money.",
    Role.BILLING: "Usage, invoices, payment and the audit log; no keys.",
    Role.DEVELOPER: "Creates and revokes keys, sees usage.",
    Role.VIEWER: "Looks and changes nothing.",
}


class RoleField(forms.ChoiceField):
    """Roles that the acting person may give, with what each allows."""

    def __init__(self, **kwargs: Any):
        defaults: dict[str, Any] = {"label": "Role", "widget": forms.RadioSelect}
        super().__init__(**(defaults | kwargs))

    def offer(self, roles: Iterable[str]) -> None:
        names = dict(Role.choices)
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
        label="E-mail", max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "off"})
    )
    projects = forms.MultipleChoiceField(
        label="Projects",
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Optional: where they get a role of their own as they join.",
    )
    project_role = forms.ChoiceField(
        label="Role in these projects", choices=ProjectRole.choices, initial=ProjectRole.MEMBER
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
        label="Search",
        required=False,
        max_length=120,
        widget=forms.TextInput(
            attrs={"type": "search", "placeholder": "Name or e-mail", "autocomplete": "off"}
        ),
    )


class GroupForm(forms.Form):
    name = NameField(
        label="Name",
        help_text="For example “Data science”.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class GroupMemberForm(PersonForm):
    pass


class RoleForm(PermissionsMixin):
    name = NameField(
        label="Name",
        max_length=80,
        help_text="For example “Key rotation”.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    description = forms.CharField(
        label="Description",
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

    group = forms.ChoiceField(label="To a group", required=False, widget=QuickSelect)
    email = forms.EmailField(
        label="Or to a person, by e-mail",
        required=False,
        widget=forms.EmailInput(attrs={"autocomplete": "off", "list": "people"}),
    )
    project = forms.ChoiceField(label="Where", required=False, widget=QuickSelect)

    def __init__(
        self, *args: Any, groups: Iterable[Group], projects: Iterable[Project], **kwargs: Any
    ):
        super().__init__(*args, **kwargs)
        self.groups = {group.public_id: group for group in groups}
        self.projects = {project.public_id: project for project in projects}
        self._offer("group", "No group", self.groups)
        self._offer("project", "Everywhere", self.projects)

    def _offer(self, name: str, empty: str, objects: dict[str, Any]) -> None:
        choices = [("", empty), *((pk, each.name) for pk, each in objects.items())]
        self.fields[name].choices = choices  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if "email" not in self.errors and bool(cleaned.get("group")) == bool(cleaned.get("email")):
            self.add_error("email", "Choose a group or a person, one of the two.")
        return cleaned
