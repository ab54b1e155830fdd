"""``/v1/organization/projects/{project_id}/rate_limits``"""

from __future__ import annotations

from api.management.limits import given
from api.management.operation import operation
from api.management.rate_limits.wire import (
    COLUMNS,
    PREFIX,
    RateLimit,
    RateLimitChange,
    RateLimitQuery,
)
from api.management.unsupported import refuse_fields
from api.management.view import ManagementView
from api.management.wire import Page
from inference.selectors import get_model_names
from tenants import access, listings
from tenants.actions import set_project_model_limit
from tenants.errors import NotFound
from tenants.models import Project
from tenants.pages import list_names


class RateLimits(ManagementView):
    @operation("project.read", query=RateLimitQuery, answer=Page[RateLimit])
    def get(self, project_id: str, query: RateLimitQuery) -> Page[RateLimit]:
        """List what the project may use of each model."""
        project = access.access_project(self.organization, project_id, with_archived=True)
        rows = {row.model: row for row in listings.model_limits(project)}
        names = [PREFIX + name for name in sorted({*get_model_names(), *rows})]
        chosen, has_more = list_names(names, query.cursor)
        data = [RateLimit.of(name, rows.get(name)) for name in map(_model_of, chosen)]
        last = chosen[-1] if chosen else None
        return Page(
            data=data,
            first_id=chosen[0] if chosen else None,
            last_id=last,
            has_more=has_more,
            next=last if has_more else None,
        )


class OneRateLimit(ManagementView):
    @operation("limit.manage", body=RateLimitChange, answer=RateLimit)
    def post(self, project_id: str, rate_limit_id: str, body: RateLimitChange) -> RateLimit:
        """Change what the project may use of one model; gateways know within a second."""
        project = access.access_project(self.organization, project_id)
        model = _known_model(project, rate_limit_id)
        refuse_fields(
            body,
            "max_images_per_1_minute",
            "max_audio_megabytes_per_1_minute",
            "batch_1_day_max_input_tokens",
        )
        sent = given(body)
        changes = {column: sent[name] for name, column in COLUMNS.items() if name in sent}
        row = set_project_model_limit(project, model, changes, acting_user=None)
        return RateLimit.of(model, row)


def _model_of(rate_limit_id: str) -> str:
    return rate_limit_id.removeprefix(PREFIX)


def _known_model(project: Project, rate_limit_id: str) -> str:
    model = _model_of(rate_limit_id)
    if not rate_limit_id.startswith(PREFIX) or model not in {
        *get_model_names(),
        *listings.model_limits(project).values_list("model", flat=True),
    }:
        raise NotFound("No such rate limit.", param="rate_limit_id")
    return model
