"""Audit chains in the test's database: what verification says of them."""

from __future__ import annotations

from tenants import audit_rows
from tenants.audit_chain import Fault, Head
from tenants.models import AuditEvent, Organization


def findings(organization: Organization, *kept: Head) -> list[tuple[int, Fault]]:
    walk = audit_rows.ChainVerification(audit_rows.read_chain(organization.pk), kept)
    found = [(finding.number, finding.fault) for finding in walk.findings()]
    late = [(0, finding.fault) for _, finding in audit_rows.unchained(organization.pk)]
    return found + late


def last_number(organization: Organization) -> int:
    return AuditEvent.objects.filter(organization=organization).latest("number").number
