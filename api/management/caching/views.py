"""``/v1/organization/caching``: terms, what they bring and could bring, and forgetting."""

from __future__ import annotations

import msgspec

from api.management.caching.wire import (
    CachingReport,
    CachingTerms,
    ForgottenAnswers,
    NewCachingTerms,
)
from api.management.operation import operation
from api.management.view import ManagementView
from api.management.wire import Empty
from inference import actions as inference
from inference.caching import get_caching_report
from tenants.actions import update_organization


class Caching(ManagementView):
    @operation("organization.read", answer=CachingTerms)
    def get(self) -> CachingTerms:
        """Get whether and for how long answers are kept."""
        return CachingTerms.of(self.organization)

    @operation("organization.update", body=NewCachingTerms, answer=CachingTerms)
    def post(self, body: NewCachingTerms) -> CachingTerms:
        """Change whether and for how long answers are kept."""
        given = msgspec.structs.asdict(body).items()
        changes = {name: value for name, value in given if value is not msgspec.UNSET}
        if changes:
            update_organization(self.organization, changes, acting_user=None)
        return CachingTerms.of(self.organization)


class CachingPotential(ManagementView):
    @operation("organization.update", answer=CachingReport)
    def get(self) -> CachingReport:
        """Get what caching saves, what more it could save, and advice."""
        return CachingReport.of(get_caching_report(self.organization))


class CachedAnswers(ManagementView):
    @operation("organization.update", body=Empty, answer=ForgottenAnswers)
    def post(self, body: Empty) -> ForgottenAnswers:
        """Forget every cached answer, exact and semantic, those being made included."""
        inference.forget_answers(self.organization, acting_user=None)
        return ForgottenAnswers()
