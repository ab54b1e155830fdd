"""``/v1/organization/spend_alerts`` and the same of a project."""

from __future__ import annotations

from api.management.operation import operation
from api.management.spend_alerts.wire import AlertQuery, NewSpendAlert, SpendAlert
from api.management.view import ManagementView
from api.management.wire import Deleted, Page, page_of
from billing.spend_alerts import (
    access_alert,
    create_spend_alert,
    delete_spend_alert,
    get_alerts,
    update_spend_alert,
)
from tenants import access
from tenants.models import Project
from tenants.pages import list_page


class _Alerts(ManagementView):
    """What both reaches do; ``project`` None is the organization as a whole."""

    def _list(self, project: Project | None, query: AlertQuery) -> Page[SpendAlert]:
        found = list_page(get_alerts(self.organization, project), query.cursor)
        return page_of(found, [SpendAlert.of(row) for row in found.rows])

    def _create(self, project: Project | None, body: NewSpendAlert) -> SpendAlert:
        made = create_spend_alert(
            self.organization, project, body.terms, acting_user=None, address=self.address
        )
        return SpendAlert.of(made)

    def _get(self, project: Project | None, alert_id: str) -> SpendAlert:
        return SpendAlert.of(access_alert(self.organization, project, alert_id))

    def _update(self, project: Project | None, alert_id: str, body: NewSpendAlert) -> SpendAlert:
        alert = access_alert(self.organization, project, alert_id)
        update_spend_alert(alert, body.terms, acting_user=None, address=self.address)
        return SpendAlert.of(alert)

    def _delete(self, project: Project | None, alert_id: str) -> Deleted:
        alert = access_alert(self.organization, project, alert_id)
        delete_spend_alert(alert, acting_user=None, address=self.address)
        reach = "organization" if project is None else "project"
        return Deleted(id=alert_id, object=f"{reach}.spend_alert.deleted")

    def _project(self, project_id: str) -> Project:
        return access.access_project(self.organization, project_id)


class OrganizationSpendAlerts(_Alerts):
    @operation("billing.read", query=AlertQuery, answer=Page[SpendAlert])
    def get(self, query: AlertQuery) -> Page[SpendAlert]:
        """List alerts on what the organization spends a month."""
        return self._list(None, query)

    @operation("billing.manage", body=NewSpendAlert, answer=SpendAlert)
    def post(self, body: NewSpendAlert) -> SpendAlert:
        """Mail these people once the month's spend reaches this."""
        return self._create(None, body)


class OneOrganizationSpendAlert(_Alerts):
    @operation("billing.read", answer=SpendAlert)
    def get(self, alert_id: str) -> SpendAlert:
        """Get an alert."""
        return self._get(None, alert_id)

    @operation("billing.manage", body=NewSpendAlert, answer=SpendAlert)
    def post(self, alert_id: str, body: NewSpendAlert) -> SpendAlert:
        """Change an alert; another threshold may tell once more this month."""
        return self._update(None, alert_id, body)

    @operation("billing.manage", answer=Deleted)
    def delete(self, alert_id: str) -> Deleted:
        """Remove an alert."""
        return self._delete(None, alert_id)


class ProjectSpendAlerts(_Alerts):
    @operation("project.read", query=AlertQuery, answer=Page[SpendAlert])
    def get(self, project_id: str, query: AlertQuery) -> Page[SpendAlert]:
        """List alerts on what a project spends a month."""
        return self._list(self._project(project_id), query)

    @operation("limit.manage", body=NewSpendAlert, answer=SpendAlert)
    def post(self, project_id: str, body: NewSpendAlert) -> SpendAlert:
        """Mail these people once the project's month reaches this."""
        return self._create(self._project(project_id), body)


class OneProjectSpendAlert(_Alerts):
    @operation("project.read", answer=SpendAlert)
    def get(self, project_id: str, alert_id: str) -> SpendAlert:
        """Get a project's alert."""
        return self._get(self._project(project_id), alert_id)

    @operation("limit.manage", body=NewSpendAlert, answer=SpendAlert)
    def post(self, project_id: str, alert_id: str, body: NewSpendAlert) -> SpendAlert:
        """Change a project's alert."""
        return self._update(self._project(project_id), alert_id, body)

    @operation("limit.manage", answer=Deleted)
    def delete(self, project_id: str, alert_id: str) -> Deleted:
        """Remove a project's alert."""
        return self._delete(self._project(project_id), alert_id)
