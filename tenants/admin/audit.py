"""The audit trail: read, and its chains verified."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.decorators import action

from tenants import audit_rows
from tenants.errors import InvalidInput
from tenants.models import AuditEvent
from tenants.staff import ReadOnlyAdmin, confirm_page

# A page must come back: about two seconds of reading.
MOST_VERIFIED = 50_000
MOST_TOLD = 5


def verify(key: int) -> str:
    """What is found in one chain, as a sentence; InvalidInput for what is not whole."""
    head = audit_rows.get_head(key)
    if head is not None and head.number > MOST_VERIFIED:
        raise InvalidInput(f"{head.number:,} rows are too many for a page: use verify_audit.")
    walk = audit_rows.ChainVerification(audit_rows.read_chain(key))
    found = [*walk.findings(), *(finding for _, finding in audit_rows.unchained(key))]
    if found:
        told = "; ".join(map(str, found[:MOST_TOLD]))
        raise InvalidInput(f"The chain is not whole, {len(found)} findings: {told}.")
    return f"The chain is whole. Keep its head elsewhere: {walk.check.last}"


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = (
        "at", "number", "action", "object_type", "object_id", "organization", "actor_type",
        "acting_user", "address",
    )  # fmt: skip
    list_select_related = ("organization", "acting_user")
    list_filter = (("at", admin.DateFieldListFilter), "actor_type")
    search_fields = ("object_id", "public_id", "acting_user__email", "organization__public_id")
    search_exactly = ("object_id",)
    search_person = "acting_user"
    search_help_text = (
        "The identifier of an object, an organization or an event; a person's address"
    )
    # Numbered by their chain as they came, so the primary key is the order of time.
    ordering = ("-pk",)
    sortable_by = ()
    actions_detail = ("verify_chain",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEvent]:
        events = super().get_queryset(request)
        return events.select_related("organization", "acting_user", "acting_key")

    @action(description="Verify this chain", url_path="verify", permissions=["view"])
    def verify_chain(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return confirm_page(
            self,
            request,
            object_id,
            title="Verify",
            question="Every event of this event's organization is read and its hash computed.",
            perform=lambda event, _given: verify(event.organization_id or audit_rows.PLATFORM),
            is_harmless=True,
        )

    def has_act_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return self.has_view_permission(request)
