"""A row of every tenant-owned table, made from the models themselves.

A model that comes later is filled without anyone saying how, unless a constraint of its
own asks for more than types tell: then it goes into ``SPECIAL``.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from django.apps import apps
from django.db import connection, models
from django.utils import timezone

from billing.models import LedgerEntry, LedgerTransaction
from tenants.models import ApiKey, AuditEvent, Job, Organization, RoleAssignment

ROOMS = ("tenants", "billing", "inference")
_numbers = count(1)
# Beside what types tell: a project's key has a project, a role goes to a person, a
# ledger posting has two sides, an event of the trail is about somebody.
SPECIAL: dict[type[models.Model], list[dict[str, Any]]] = {
    ApiKey: [{"kind": ApiKey.Kind.PROJECT, "project": ...}],
    RoleAssignment: [{"user": ...}],
    # A posting of usage is that usage's cost, in one statement with it.
    LedgerTransaction: [{"kind": "credit"}],
    LedgerEntry: [
        {"account": "receivable", "amount_micros": 5},
        {"account": "revenue", "amount_micros": -5},
    ],
    AuditEvent: [{"organization": ...}],
    Job: [{"organization": ...}],
}


def protected_tables() -> dict[str, str]:
    """Each table with row security, and the column of its organization."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relrowsecurity"
            " AND relnamespace = 'public'::regnamespace ORDER BY relname"
        )
        names = [name for (name,) in cursor.fetchall()]
    return {name: "id" if name == "tenants_organization" else "organization_id" for name in names}


def model_of(table: str) -> type[models.Model]:
    return next(model for model in apps.get_models() if model._meta.db_table == table)


class Tenant:
    """One organization, and one row (or one whole posting) of whatever is asked for."""

    def __init__(self, organization: Organization) -> None:
        self.organization = organization
        self._made: dict[type[models.Model], models.Model] = {Organization: organization}

    def row(self, model: type[models.Model]) -> models.Model:
        if model not in self._made:
            rows = [self._build(model, given) for given in SPECIAL.get(model, [{}])]
            # Past save(), which some of these models refuse or add to; in one statement, as
            # the sides of a posting must come.
            model._base_manager.bulk_create(rows)
            self._made[model] = rows[0]
        return self._made[model]

    def _build(self, model: type[models.Model], given: dict[str, Any]) -> models.Model:
        values = {name: value for name, value in given.items() if value is not ...}
        for field in model._meta.concrete_fields:
            is_asked_for = given.get(field.name) is ...
            is_open = field.null or field.has_default() or field.primary_key
            if field.name not in values and (is_asked_for or not is_open):
                values[field.name] = self._value(field)
        return model(**values)

    def _value(self, field: models.Field[Any, Any]) -> Any:
        number = next(_numbers)
        if isinstance(field, models.ForeignKey):
            related = field.remote_field.model
            return self.row(related)
        if field.choices:
            return field.choices[0][0]
        if isinstance(field, models.DateTimeField):
            return timezone.now()
        if isinstance(field, models.DateField):
            return timezone.now().date()
        if isinstance(field, models.GenericIPAddressField):
            return f"192.0.2.{number % 250}"
        if isinstance(field, models.JSONField):
            return []
        if isinstance(field, models.BinaryField):
            return b"%032d" % number
        if isinstance(field, models.IntegerField):
            return 0
        if isinstance(field, models.EmailField):
            return f"n{number}@example.com"
        return f"n{number}"[: field.max_length]
