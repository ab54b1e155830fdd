"""``/v1/organization/audit_logs``"""

from __future__ import annotations

from api.management.audit_logs.wire import AuditLog, AuditQuery, audit_log
from api.management.operation import operation
from api.management.view import ManagementView
from api.management.wire import Page, page_of
from tenants import listings
from tenants.audit_events import EVERYTHING
from tenants.pages import list_page


class AuditLogs(ManagementView):
    @operation("audit.read", query=AuditQuery, answer=Page[AuditLog])
    def get(self, query: AuditQuery) -> Page[AuditLog]:
        """List what was done, newest first."""
        if query.tenant_only:  # OpenAI's events of several organizations at once: we have none
            return Page(data=[], first_id=None, last_id=None, has_more=False, next=None)
        found = list_page(
            listings.audit_log(self.organization, query.filters),
            query.cursor,
            among=listings.audit_log(self.organization, EVERYTHING),
            key=("at", "pk"),
        )
        return page_of(found, [audit_log(row) for row in found.rows])
