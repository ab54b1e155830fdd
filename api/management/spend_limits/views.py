"""``/v1/organization/spend_limit`` and the same of a project."""

from __future__ import annotations

from api.management.operation import operation
from api.management.spend_limits.wire import MICROS_OF_CENT, NewSpendLimit, SpendLimit
from api.management.view import ManagementView
from api.management.wire import Removed
from billing.selectors import spent_this_month
from tenants import access
from tenants.actions import set_spend_limit, update_project
from tenants.errors import NotFound
from tenants.models import Organization, Project

ORGANIZATION, PROJECT = "organization.spend_limit", "project.spend_limit"


class OrganizationSpendLimit(ManagementView):
    @operation("billing.read", answer=SpendLimit)
    def get(self) -> SpendLimit:
        """Get what the organization allows itself to spend a month."""
        return _of_organization(self.organization)

    @operation("billing.manage", body=NewSpendLimit, answer=SpendLimit)
    def post(self, body: NewSpendLimit) -> SpendLimit:
        """Refuse requests once the month's spend reaches this; a plan's own budget stays."""
        micros = body.threshold_amount * MICROS_OF_CENT
        return _of_organization(set_spend_limit(self.organization, micros, acting_user=None))

    @operation("billing.manage", answer=Removed)
    def delete(self) -> Removed:
        """Take the limit away."""
        set_spend_limit(self.organization, None, acting_user=None)
        return Removed(object=f"{ORGANIZATION}.deleted")


class ProjectSpendLimit(ManagementView):
    @operation("project.read", answer=SpendLimit)
    def get(self, project_id: str) -> SpendLimit:
        """Get what the project may spend a month."""
        return _of_project(access.access_project(self.organization, project_id))

    @operation("limit.manage", body=NewSpendLimit, answer=SpendLimit)
    def post(self, project_id: str, body: NewSpendLimit) -> SpendLimit:
        """Refuse the project's requests once its month's spend reaches this."""
        project = access.access_project(self.organization, project_id)
        micros = body.threshold_amount * MICROS_OF_CENT
        changes = {"monthly_budget_micros": micros}
        return _of_project(update_project(project, changes, acting_user=None))

    @operation("limit.manage", answer=Removed)
    def delete(self, project_id: str) -> Removed:
        """Take the project's limit away; the organization's stays."""
        project = access.access_project(self.organization, project_id)
        update_project(project, {"monthly_budget_micros": None}, acting_user=None)
        return Removed(object=f"{PROJECT}.deleted")


def _of_organization(organization: Organization) -> SpendLimit:
    micros = organization.spend_limit_micros
    if micros is None:
        raise NotFound("The organization has set no spend limit.")
    return SpendLimit.of(micros, spent_this_month(organization), ORGANIZATION)


def _of_project(project: Project) -> SpendLimit:
    micros = project.monthly_budget_micros
    if micros is None:
        raise NotFound("The project has no spend limit.")
    return SpendLimit.of(micros, spent_this_month(project.organization, project), PROJECT)
