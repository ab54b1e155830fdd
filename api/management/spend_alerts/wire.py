"""Alerts on a month's spend on the wire: amounts in whole cents, as at OpenAI."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from api.management.spend_limits.wire import MICROS_OF_CENT, MOST_CENTS
from api.management.wire import Answer, Body, ListQuery, Text
from billing.models import SpendAlert as AlertRow
from billing.spend_alerts import MOST_RECIPIENTS, AlertTerms
from tenants.pages import Cursor


class Channel(Answer, frozen=True, kw_only=True):
    recipients: list[str]
    subject_prefix: str | None = None
    type: Literal["email"] = "email"


class NewChannel(Body, frozen=True, kw_only=True):
    type: Literal["email"]
    recipients: Annotated[list[Text], Meta(min_length=1, max_length=MOST_RECIPIENTS)]
    subject_prefix: Annotated[str, Meta(max_length=80)] | None = None


class SpendAlert(Answer, frozen=True, kw_only=True):
    id: str
    threshold_amount: int
    notification_channel: Channel
    object: Literal["organization.spend_alert", "project.spend_alert"]
    currency: Literal["USD"] = "USD"
    interval: Literal["month"] = "month"

    @classmethod
    def of(cls, row: AlertRow) -> SpendAlert:
        return cls(
            id=row.public_id,
            threshold_amount=row.threshold_micros // MICROS_OF_CENT,
            notification_channel=Channel(
                recipients=row.recipients, subject_prefix=row.subject_prefix or None
            ),
            object="project.spend_alert" if row.project_id else "organization.spend_alert",
        )


class NewSpendAlert(Body, frozen=True, kw_only=True):
    threshold_amount: Annotated[int, Meta(ge=1, le=MOST_CENTS)]
    currency: Literal["USD"]
    interval: Literal["month"]
    notification_channel: NewChannel

    @property
    def terms(self) -> AlertTerms:
        channel = self.notification_channel
        return AlertTerms(
            threshold_micros=self.threshold_amount * MICROS_OF_CENT,
            recipients=tuple(channel.recipients),
            subject_prefix=channel.subject_prefix or "",
        )


class AlertQuery(ListQuery, frozen=True, kw_only=True):
    before: str | None = None
    order: Literal["asc", "desc"] = "asc"

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.limit, self.after, self.before, is_descending=self.order == "desc")
