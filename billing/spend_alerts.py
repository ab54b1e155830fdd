"""Alerts on a month's costs: made, changed and removed. ``spend_watch`` looks and tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import QuerySet

from billing.models import SpendAlert
from tenants import audit, locks
from tenants.errors import InvalidInput, NotFound
from tenants.models import Organization, Project, User

MOST_ALERTS = 50
MOST_RECIPIENTS = 10
MOST_MICROS = 10**16


@dataclass(frozen=True)
class AlertTerms:
    threshold_micros: int
    recipients: tuple[str, ...]
    subject_prefix: str = ""


def get_alerts(organization: Organization, project: Project | None) -> QuerySet[SpendAlert]:
    """Of the organization as a whole, or of one project."""
    return SpendAlert.objects.filter(organization=organization, project=project)


def access_alert(organization: Organization, project: Project | None, public_id: str) -> SpendAlert:
    alert = get_alerts(organization, project).filter(public_id=public_id).first()
    if alert is None:
        raise NotFound("No such spend alert.")
    return alert


@transaction.atomic
def create_spend_alert(
    organization: Organization,
    project: Project | None,
    terms: AlertTerms,
    *,
    acting_user: User | None,
    address: str | None = None,
) -> SpendAlert:
    locks.lock_organization(organization)
    if SpendAlert.objects.filter(organization=organization).count() >= MOST_ALERTS:
        raise InvalidInput(f"An organization has at most {MOST_ALERTS} spend alerts.")
    alert = SpendAlert(organization=organization, project=project)
    _apply(alert, terms)
    alert.save()
    _record("spend_alert.created", alert, acting_user, address, after=_shown(alert))
    return alert


@transaction.atomic
def update_spend_alert(
    alert: SpendAlert, terms: AlertTerms, *, acting_user: User | None, address: str | None = None
) -> SpendAlert:
    """With another threshold it may tell once more in the same month."""
    before = _shown(alert)
    _apply(alert, terms)
    alert.save()
    _record("spend_alert.updated", alert, acting_user, address, before, _shown(alert))
    return alert


@transaction.atomic
def delete_spend_alert(
    alert: SpendAlert, *, acting_user: User | None, address: str | None = None
) -> None:
    _record("spend_alert.deleted", alert, acting_user, address, before=_shown(alert))
    alert.delete()


def _apply(alert: SpendAlert, terms: AlertTerms) -> None:
    if not 0 < terms.threshold_micros <= MOST_MICROS:
        raise InvalidInput("A threshold above 0, please.", param="threshold_amount")
    prefix = " ".join(terms.subject_prefix.split())
    if len(prefix) > 80 or not prefix.isprintable():
        raise InvalidInput("At most 80 characters.", param="notification_channel.subject_prefix")
    alert.threshold_micros = terms.threshold_micros
    alert.recipients = _checked_recipients(terms.recipients)
    alert.subject_prefix = prefix


def _checked_recipients(addresses: Iterable[str]) -> list[str]:
    param = "notification_channel.recipients"
    found = list(dict.fromkeys(address.strip().lower() for address in addresses))
    if not 1 <= len(found) <= MOST_RECIPIENTS:
        raise InvalidInput(f"1 to {MOST_RECIPIENTS} recipients, please.", param=param)
    for address in found:
        try:
            validate_email(address)
        except ValidationError as error:
            raise InvalidInput(f"{address[:80]!r} is no e-mail address.", param=param) from error
    return found


def _shown(alert: SpendAlert) -> dict[str, Any]:
    return {
        "threshold_micros": alert.threshold_micros,
        "recipients": alert.recipients,
        "subject_prefix": alert.subject_prefix,
    }


def _record(
    action: str,
    alert: SpendAlert,
    acting_user: User | None,
    address: str | None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    audit.record_event(
        acting_user=acting_user,
        action=action,
        object_type="spend_alert",
        object_id=alert.public_id,
        organization=alert.organization,
        project=alert.project.public_id if alert.project else "",
        before=before,
        after=after,
        address=address,
    )
