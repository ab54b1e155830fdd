"""Webhook endpoints and what was sent to them, on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from api.management.wire import Answer, Body, Text, unix
from tenants.actions import EndpointTerms
from tenants.models import WebhookAttempt, WebhookEndpoint
from tenants.outbound import LONGEST_URL
from tenants.webhooks import TYPES
from tenants.webhooks.log import DeliveryRow

Url = Annotated[str, Meta(max_length=LONGEST_URL)]
Events = Annotated[list[str], Meta(min_length=1, max_length=len(TYPES))]
OBJECT = "organization.webhook"


class Webhook(Answer, frozen=True, kw_only=True):
    """``disabled_by`` is ``failures`` where nothing reached it for days."""

    id: str
    url: str
    events: list[str]
    description: str
    enabled: bool
    disabled_by: Literal["member", "failures"] | None
    failing_since: int | None
    previous_secret_expires_at: int | None
    created_at: int
    object: Literal["organization.webhook"] = "organization.webhook"

    @classmethod
    def of(cls, row: WebhookEndpoint, **more: Any) -> Any:
        disabled: Any = row.disabled or None
        return cls(
            id=row.public_id,
            url=row.url,
            events=row.events,
            description=row.description,
            enabled=row.is_enabled,
            disabled_by=disabled,
            failing_since=unix(row.failing_since),
            previous_secret_expires_at=unix(row.previous_expires_at),
            created_at=unix(row.created_at),
            **more,
        )


class WebhookWithSecret(Webhook, frozen=True, kw_only=True):
    """The only time that the secret is shown."""

    secret: str


class NewWebhook(Body, frozen=True, kw_only=True):
    url: Url
    events: Events
    description: Text = ""
    enabled: bool = True

    @property
    def terms(self) -> EndpointTerms:
        return EndpointTerms(self.url, tuple(self.events), self.description, self.enabled)


class ChangedWebhook(Body, frozen=True, kw_only=True):
    """What is not given stays."""

    url: Url | UnsetType = UNSET
    events: Events | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET

    def terms(self, row: WebhookEndpoint) -> EndpointTerms:
        return EndpointTerms(
            url=row.url if self.url is UNSET else self.url,
            events=tuple(row.events if self.events is UNSET else self.events),
            description=row.description if self.description is UNSET else self.description,
            is_enabled=row.is_enabled if self.enabled is UNSET else self.enabled,
        )


class Rotation(Body, frozen=True, kw_only=True):
    """For how long the secret before signs too."""

    overlap_hours: Annotated[int, Meta(ge=0, le=168)] = 24


class Attempt(Answer, frozen=True, kw_only=True):
    """``status_code`` is null where no answer came; ``response`` is its first kilobyte."""

    number: int
    created_at: int
    status_code: int | None
    latency_ms: int
    error: str | None
    response: str

    @classmethod
    def of(cls, row: WebhookAttempt) -> Attempt:
        return cls(
            number=row.number,
            created_at=unix(row.at),
            status_code=row.status_code,
            latency_ms=row.latency_ms,
            error=row.error or None,
            response=row.answer,
        )


class Delivery(Answer, frozen=True, kw_only=True):
    """``status_code``, ``latency_ms`` and ``error`` are the last attempt's."""

    id: str
    event_id: str
    type: str
    data: dict[str, Any]
    status: Literal["waiting", "delivered", "failed", "dropped"]
    is_replay: bool
    attempts: int
    status_code: int | None
    latency_ms: int | None
    error: str | None
    next_attempt_at: int | None
    created_at: int
    ended_at: int | None
    object: Literal["organization.webhook.delivery"] = "organization.webhook.delivery"

    @classmethod
    def of(cls, row: DeliveryRow, **more: Any) -> Any:
        return cls(
            id=row.public_id,
            event_id=row.event.public_id,
            type=row.event.type,
            data=row.event.data,
            status=row.state,  # type: ignore[arg-type]
            is_replay=row.is_replay,
            attempts=row.attempts_made,
            status_code=row.last_status_code,
            latency_ms=row.last_latency_ms,
            error=row.last_error or None,
            next_attempt_at=unix(row.next_attempt_at),
            created_at=unix(row.created_at),
            ended_at=unix(row.ended_at),
            **more,
        )


class DeliveryWithLog(Delivery, frozen=True, kw_only=True):
    log: list[Attempt]

    @classmethod
    def of(cls, row: DeliveryRow, **more: Any) -> Any:
        return super().of(row, log=[Attempt.of(each) for each in row.attempts.all()], **more)
