"""Forms about files and batches. They parse and explain; the rooms decide."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext, gettext_lazy

from inference.batches.actions import ENDPOINTS, SCOPES
from inference.batches.models import Batch
from inference.batches.reading import first_faults
from inference.batches.requests import Fault
from inference.files.models import File
from portal.fields import QuickSelect
from portal.words_of_batches import PURPOSES, STATUSES
from tenants.models import ApiKey, Project

SEARCH = {"type": "search", "autocomplete": "off"}


def _search(placeholder: Any) -> forms.CharField:
    attrs = SEARCH | {"placeholder": placeholder}
    return forms.CharField(
        label=gettext_lazy("Search"),
        required=False,
        max_length=120,
        widget=forms.TextInput(attrs=attrs),
    )


class _OfProjects(forms.Form):
    """A filter by project, among those that somebody sees."""

    project = forms.ChoiceField(label=gettext_lazy("Project"), required=False, widget=QuickSelect)

    def __init__(self, *args: Any, projects: Iterable[Project], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.projects = {project.public_id: project.pk for project in projects}
        names = [(project.public_id, project.name) for project in projects]
        self.fields["project"].choices = [("", gettext("Every project")), *names]  # type: ignore[attr-defined]


class FileFilter(_OfProjects):
    q = _search(gettext_lazy("Name or ID"))
    purpose = forms.ChoiceField(label=gettext_lazy("Kind"), required=False)
    field_order = ("q", "project", "purpose")

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        kinds = [(value, PURPOSES[value]) for value in File.Purpose.values]
        self.fields["purpose"].choices = [("", gettext("Every kind")), *kinds]  # type: ignore[attr-defined]


class BatchFilter(_OfProjects):
    q = _search(gettext_lazy("Model or ID"))
    status = forms.ChoiceField(label=gettext_lazy("Status"), required=False)
    field_order = ("q", "project", "status")

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        states = [(value, STATUSES[value].label) for value in Batch.Status.values]
        self.fields["status"].choices = [("", gettext("Any status")), *states]  # type: ignore[attr-defined]


class UploadForm(forms.Form):
    """A file of requests; ``faults`` says what is wrong with its first lines."""

    project = forms.ChoiceField(label=gettext_lazy("Project"), widget=QuickSelect)
    file = forms.FileField(
        label=gettext_lazy("File"),
        allow_empty_file=True,  # told in our words
        max_length=255,
        widget=forms.FileInput(attrs={"accept": ".jsonl,.ndjson,.txt,application/jsonl"}),
    )

    def __init__(self, *args: Any, projects: Iterable[Project], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.projects = {project.public_id: project for project in projects}
        choices = [(project.public_id, project.name) for project in self.projects.values()]
        self.fields["project"].choices = choices  # type: ignore[attr-defined]
        most = {"size": filesizeformat(settings.MAX_FILE_BYTES)}
        self.fields["file"].help_text = (
            gettext("JSON Lines, one request a line, at most %(size)s.") % most
        )
        self.fields["file"].widget.attrs["data-most-bytes"] = settings.MAX_FILE_BYTES
        self.fields["file"].widget.attrs["data-too-large"] = self._too_large()
        self.faults: list[Fault] = []

    def _too_large(self) -> str:
        most = {"size": filesizeformat(settings.MAX_FILE_BYTES)}
        return gettext("This file is too large: at most %(size)s.") % most

    def clean_project(self) -> Project:
        return self.projects[self.cleaned_data["project"]]

    def clean_file(self) -> UploadedFile:
        file: UploadedFile = self.cleaned_data["file"]
        if not file.size:
            raise ValidationError(gettext("The file is empty."))
        if file.size > settings.MAX_FILE_BYTES:
            raise ValidationError(self._too_large())
        self.faults = first_faults(file.chunks())
        if self.faults:
            raise ValidationError(
                gettext("Nothing was stored: some lines are no requests. They are listed below.")
            )
        return file


class BatchForm(forms.Form):
    """What shall be run of a file, and in the name of which key."""

    form_id = forms.CharField(widget=forms.HiddenInput, max_length=200)
    endpoint = forms.ChoiceField(
        label=gettext_lazy("Endpoint"), choices=[(each, each) for each in ENDPOINTS]
    )
    key = forms.ChoiceField(
        label=gettext_lazy("Key"),
        widget=QuickSelect,
        help_text=gettext_lazy(
            "The requests run in its name: with its models, limits and budget. "
            "If it is revoked, what has not run yet fails."
        ),
    )

    def __init__(self, *args: Any, keys: Iterable[ApiKey], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.keys = {key.public_id: key for key in keys}
        choices = [(key.public_id, f"{key.name} (…{key.last_four})") for key in self.keys.values()]
        self.fields["key"].choices = choices  # type: ignore[attr-defined]

    def clean_key(self) -> ApiKey:
        return self.keys[self.cleaned_data["key"]]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        key, endpoint = cleaned.get("key"), cleaned.get("endpoint")
        if key is not None and endpoint and not may_call(key, endpoint):
            self.add_error("key", gettext("This key may not call that endpoint."))
        return cleaned


def may_call(key: ApiKey, endpoint: str) -> bool:
    return not key.scopes or SCOPES[endpoint] in key.scopes
