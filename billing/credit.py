"""Credit that staff grant: a posting in the ledger, and its copy that admission reads."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F

from billing.models import LedgerEntry, LedgerTransaction
from tenants import audit
from tenants.actions import notify_change
from tenants.errors import AlreadyDone, InvalidInput
from tenants.models import Organization, User

# A billion dollars at once: above any grant, and far from what a bigint holds.
MAX_GRANT_MICROS = 10**15


@transaction.atomic
def grant_credit(
    organization: Organization,
    amount_micros: int,
    *,
    reference: str,
    reason: str,
    acting_user: User | None,
    address: str | None = None,
) -> LedgerTransaction:
    """Lower what the organization owes, or, of a negative amount, take a grant back.

    ``reference`` is the grant's own id: the same one again raises AlreadyDone and
    grants nothing. No more is taken back than was granted; what is spent already
    stays spent, and a prepaid organization waits for new credit.
    """
    _check_grant(amount_micros, reference, reason)
    posting = _post(organization, amount_micros, reference)
    # In the posting's transaction, by one conditional statement: never read, then written.
    moved = Organization.objects.filter(
        pk=organization.pk, credit_granted_micros__gte=-amount_micros
    ).update(credit_granted_micros=F("credit_granted_micros") + amount_micros)
    if not moved:
        raise InvalidInput("No more can be taken back than was granted.", param="amount")
    organization.refresh_from_db(fields=["credit_granted_micros"])
    told = {"amount_micros": amount_micros, "reference": reference, "reason": reason}
    _record(organization, told, acting_user, address)
    notify_change(organization)
    return posting


def _record(
    organization: Organization, told: dict[str, Any], acting_user: User | None, address: str | None
) -> None:
    amount_micros, now = told["amount_micros"], organization.credit_granted_micros
    audit.record_event(
        acting_user=acting_user,
        action="credit.granted" if amount_micros > 0 else "credit.taken_back",
        object_type="organization",
        object_id=organization.public_id,
        organization=organization,
        before={"credit_granted_micros": now - amount_micros},
        after={"credit_granted_micros": now, **told},
        address=address,
    )


def _check_grant(amount_micros: int, reference: str, reason: str) -> None:
    if amount_micros == 0 or abs(amount_micros) > MAX_GRANT_MICROS:
        raise InvalidInput(
            f"An amount of up to {MAX_GRANT_MICROS} micro-dollars, please.", param="amount"
        )
    if not 1 <= len(reference) <= 60 or not reference.isprintable():
        raise InvalidInput("A reference has 1 to 60 printable characters.", param="reference")
    if not reason.strip() or len(reason) > 200 or not reason.isprintable():
        raise InvalidInput("Say why, in at most 200 characters.", param="reason")


def _post(organization: Organization, amount_micros: int, reference: str) -> LedgerTransaction:
    try:
        with transaction.atomic():
            posting = LedgerTransaction.objects.create(
                organization=organization, kind=LedgerTransaction.Kind.CREDIT, reference=reference
            )
    except IntegrityError as error:
        raise AlreadyDone("This credit was granted before.") from error
    LedgerEntry.objects.bulk_create(
        LedgerEntry(
            transaction=posting, organization=organization, account=account, amount_micros=side
        )
        for account, side in (
            (LedgerEntry.Account.GRANTED, amount_micros),
            (LedgerEntry.Account.RECEIVABLE, -amount_micros),
        )
    )
    return posting
