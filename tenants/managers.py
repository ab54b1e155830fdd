"""Managers that fail without a tenant: ``objects`` of every tenant-owned model.

What a web scope does not name is not found; code that forgot to enter a scope
raises ``MissingScope`` instead of reading everybody's rows.
"""

from __future__ import annotations

from typing import Any, TypeVar

from django.db import models

from tenants import scope

M = TypeVar("M", bound=models.Model)


class MissingScope(RuntimeError):
    """A programming error: tenant rows were asked for on nobody's behalf."""


class TenantManager(models.Manager[M]):
    """Rows of the scope's organization; ``organization`` is the path to it.

    ``user`` names the path to whom a row also belongs, if it does: a user sees
    their own memberships in every organization.
    """

    def __init__(self, organization: str = "organization", user: str = "") -> None:
        super().__init__()
        self._organization = organization
        self._user = user

    def get_queryset(self) -> models.QuerySet[M]:
        rows = super().get_queryset()
        current = scope.current()
        if current.sees_everything:
            return rows
        if current.organization is not None:
            return rows.filter(**{self._organization: current.organization})
        return self._of_caller(rows, current)

    def none(self) -> models.QuerySet[M]:
        """Nothing, which needs no scope: forms are built before there is one."""
        return super().get_queryset().none()

    def _of_caller(self, rows: models.QuerySet[M], current: scope.Scope) -> models.QuerySet[M]:
        """Rows that the caller may see before an organization is chosen."""
        if self._user and current.user is not None:
            return rows.filter(**{self._user: current.user}).distinct()
        raise MissingScope(
            f"{self.model.__name__} was read outside a tenant scope; enter one of tenants.scope."
        )


class KeyManager(TenantManager[M]):
    """Also the one key that the caller presented, to find out whose it is."""

    def _of_caller(self, rows: models.QuerySet[M], current: scope.Scope) -> models.QuerySet[M]:
        if not current.key_lookup:
            return super()._of_caller(rows, current)
        presented: dict[str, Any] = {"lookup": current.key_lookup}
        rotated: dict[str, Any] = {"previous_lookup": current.key_lookup}
        return rows.filter(models.Q(**presented) | models.Q(**rotated))


class InvitationManager(TenantManager[M]):
    """Also the one invitation whose secret the caller presented."""

    def _of_caller(self, rows: models.QuerySet[M], current: scope.Scope) -> models.QuerySet[M]:
        if not current.invitation:
            return super()._of_caller(rows, current)
        presented: dict[str, Any] = {"token_digest": current.invitation}
        return rows.filter(**presented)


class ProviderManager(TenantManager[M]):
    """Also the identity provider by which somebody came to log in."""

    def _of_caller(self, rows: models.QuerySet[M], current: scope.Scope) -> models.QuerySet[M]:
        if not current.provider:
            return super()._of_caller(rows, current)
        by_slug: dict[str, Any] = {"slug": current.provider}
        by_domain: dict[str, Any] = {"verified_domains__contains": [current.provider]}
        return rows.filter(models.Q(**by_slug) | models.Q(**by_domain))
