"""What the staff admin's pages share: audited changes, read-only pages, confirmations.

The admin is the staff's door, yet its pages lie in the rooms, where Django looks
for them; they change rows only through actions or with an audit row beside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.db.models import QuerySet
from django.forms import BaseModelFormSet, ModelForm
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tenants import audit
from tenants.errors import TenantError
from tenants.models import User
from tenants.staff_access import organization_of, record_list, record_object
from tenants.staff_lists import ListAdmin

# Never copied into the audit trail, whatever form they come in.
SECRET_FIELDS = frozenset({"password", "password1", "password2", "secret_hmac", "lookup"})


def staff_user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


def address_of(request: HttpRequest) -> str | None:
    return request.META.get("REMOTE_ADDR") or None


def link_to(target: models.Model | None, text: str | None = None) -> SafeString | str:
    """A link to an object's own admin page; staff without its permission get a 403 there."""
    if target is None:
        return "–"
    return format_html('<a href="{}">{}</a>', _page_of(target), text or str(target))


def values_of(instance: models.Model, names: list[str]) -> dict[str, str]:
    """The named fields as text for the audit trail, without secrets."""
    return {
        name: _text(getattr(instance, name))
        for name in names
        if name not in SECRET_FIELDS and hasattr(instance, name)
    }


def _text(value: Any) -> str:
    if hasattr(value, "all"):
        return ", ".join(sorted(str(each) for each in value.all()))
    return str(value)


class StaffAdmin(ListAdmin):
    """Quick lists, looked-at objects on record, and a room's refusals as messages."""

    def has_act_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """For buttons of pages whose fields nobody edits."""
        return staff_user(request).has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = super().changelist_view(request, *args, **kwargs)
        if request.method == "GET" and response.status_code == 200:
            record_list(request, self.model)
        return response

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except TenantError as error:
            self.message_user(request, error.message, messages.ERROR)
            return redirect(request.get_full_path())

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        if obj is not None and request.method == "GET":
            record_object(request, obj)
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def render_delete_form(self, request: HttpRequest, context: Any) -> HttpResponse:
        if context.get("object") is not None:
            record_object(request, context["object"])
        return super().render_delete_form(request, context)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().delete_view(request, *args, **kwargs)
        except TenantError as error:
            self.message_user(request, error.message, messages.ERROR)
            return redirect(request.get_full_path())

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        response = super().history_view(request, object_id, extra_context)
        obj = self.get_object(request, str(object_id))
        if obj is not None and response.status_code == 200:
            record_object(request, obj)
        return response


class AuditedAdmin(StaffAdmin):
    """Every change writes an audit row in the transaction of the change.

    Subclasses whose model gateways cache override ``announce``.
    """

    def announce(self) -> None:
        """Tell the gateways; called inside the transaction."""

    def save_model(
        self,
        request: HttpRequest,
        obj: models.Model,
        form: ModelForm[Any],
        change: bool,
    ) -> None:
        names = list(form.changed_data)
        stored = type(obj)._default_manager.filter(pk=obj.pk).first() if change else None
        before = values_of(stored, names) if stored else {}
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            self.record(
                request,
                obj,
                "changed" if change else "created",
                before=before,
                after=values_of(obj, names),
            )
            self.announce()

    def save_related(
        self, request: HttpRequest, form: Any, formsets: list[Any], change: bool
    ) -> None:
        """Inline rows are changes too."""
        with transaction.atomic():
            super().save_related(request, form, formsets, change)
            for formset in formsets:
                self._record_formset(request, formset)
            self.announce()

    def delete_model(self, request: HttpRequest, obj: models.Model) -> None:
        with transaction.atomic():
            self.record(request, obj, "deleted", before={"name": str(obj)})
            super().delete_model(request, obj)
            self.announce()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for obj in queryset:
                self.record(request, obj, "deleted", before={"name": str(obj)})
            super().delete_queryset(request, queryset)
            self.announce()

    def record(
        self,
        request: HttpRequest,
        obj: models.Model,
        verb: str,
        *,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
    ) -> None:
        kind = str(obj._meta.model_name)
        audit.record_event(
            acting_user=staff_user(request),
            action=f"staff.{kind}.{verb}",
            object_type=kind,
            object_id=str(getattr(obj, "public_id", obj.pk)),
            organization=organization_of(obj),
            before=before,
            after=after,
            address=address_of(request),
        )

    def _record_formset(self, request: HttpRequest, formset: BaseModelFormSet[Any, Any]) -> None:
        for obj in formset.new_objects:
            self.record(request, obj, "created", after={"name": str(obj)})
        for obj, names in formset.changed_objects:
            self.record(request, obj, "changed", after=values_of(obj, names))
        for obj in formset.deleted_objects:
            self.record(request, obj, "deleted", before={"name": str(obj)})


class ReadOnlyAdmin(StaffAdmin):
    """Rows that other processes write; here they are only looked at."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=200,
        required=False,
        widget=forms.TextInput(attrs={"size": 60, "class": "vTextField"}),
        help_text="Shown to the organization's members.",
    )


def confirm_page(
    model_admin: StaffAdmin,
    request: HttpRequest,
    object_id: str,
    *,
    title: str,
    question: str,
    perform: Callable[[Any, dict[str, Any]], str],
    make_form: Callable[[HttpRequest, Any], forms.Form] | None = None,
    then: str = "",
    may: bool | None = None,
    is_harmless: bool = False,
) -> HttpResponse:
    """Ask on GET, act on POST: an action's link alone must never change anything.

    ``make_form(request, object)`` asks for more; ``perform(object, what was answered)``
    returns the sentence that tells what happened, or raises a TenantError, which is told.
    ``then`` is the address to go on to, else the object's own page; ``may`` says whether
    this is allowed, else whether the object may be changed; ``is_harmless`` takes the red
    from the button.
    """
    obj = model_admin.get_object(request, object_id)
    if obj is None:
        raise Http404
    if not (may if may is not None else model_admin.has_act_permission(request, obj)):
        raise PermissionDenied
    form = make_form(request, obj) if make_form is not None else None
    if request.method == "POST" and (form is None or form.is_valid()):
        try:
            told = perform(obj, form.cleaned_data if form is not None else {})
        except TenantError as error:
            model_admin.message_user(request, error.message, messages.ERROR)
            return redirect(request.get_full_path())
        model_admin.message_user(request, told)
        return redirect(then or _page_of(obj))
    record_object(request, obj)
    asked = {"title": title, "question": question, "object": obj, "form": form}
    asked["is_harmless"] = is_harmless
    context = {**admin.site.each_context(request), **asked, "opts": obj._meta}
    return TemplateResponse(
        request, "admin/confirm_action.html", context | {"back": then or _page_of(obj)}
    )


def ask_reason(request: HttpRequest, _obj: Any) -> forms.Form:
    return ReasonForm(request.POST or None)


def _page_of(obj: models.Model) -> str:
    meta = obj._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[obj.pk])
