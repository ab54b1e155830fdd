"""``/v1/organization/webhooks``: of this platform's own; OpenAI has pages for it only."""

from __future__ import annotations

from datetime import timedelta

from api.management.operation import operation
from api.management.view import ManagementView
from api.management.webhooks.wire import (
    OBJECT,
    ChangedWebhook,
    Delivery,
    DeliveryWithLog,
    NewWebhook,
    Rotation,
    Webhook,
    WebhookWithSecret,
)
from api.management.wire import Deleted, Empty, OrderedQuery, Page, page_of
from tenants.actions import (
    create_webhook,
    delete_webhook,
    replay_delivery,
    rotate_webhook_secret,
    send_test_event,
    update_webhook,
)
from tenants.pages import list_page
from tenants.webhooks.log import access_delivery, access_endpoint, get_deliveries, get_endpoints

MANAGE = "webhook.manage"


class Webhooks(ManagementView):
    @operation(MANAGE, query=OrderedQuery, answer=Page[Webhook])
    def get(self, query: OrderedQuery) -> Page[Webhook]:
        """List webhook endpoints."""
        found = list_page(get_endpoints(self.organization), query.cursor)
        return page_of(found, [Webhook.of(row) for row in found.rows])

    @operation(MANAGE, body=NewWebhook, answer=WebhookWithSecret)
    def post(self, body: NewWebhook) -> WebhookWithSecret:
        """Add a webhook endpoint; the answer alone has its secret."""
        row, secret = create_webhook(
            self.organization, body.terms, acting_user=None, address=self.address
        )
        return WebhookWithSecret.of(row, secret=secret)  # type: ignore[no-any-return]


class OneWebhook(ManagementView):
    @operation(MANAGE, answer=Webhook)
    def get(self, webhook_id: str) -> Webhook:
        """Get a webhook endpoint."""
        return Webhook.of(access_endpoint(self.organization, webhook_id))  # type: ignore[no-any-return]

    @operation(MANAGE, body=ChangedWebhook, answer=Webhook)
    def post(self, webhook_id: str, body: ChangedWebhook) -> Webhook:
        """Change a webhook endpoint, or turn it on and off."""
        row = access_endpoint(self.organization, webhook_id)
        update_webhook(row, body.terms(row), acting_user=None, address=self.address)
        return Webhook.of(row)  # type: ignore[no-any-return]

    @operation(MANAGE, answer=Deleted)
    def delete(self, webhook_id: str) -> Deleted:
        """Remove a webhook endpoint and its log."""
        row = access_endpoint(self.organization, webhook_id)
        delete_webhook(row, acting_user=None, address=self.address)
        return Deleted(id=webhook_id, object=f"{OBJECT}.deleted")


class WebhookRotation(ManagementView):
    @operation(MANAGE, body=Rotation, answer=WebhookWithSecret)
    def post(self, webhook_id: str, body: Rotation) -> WebhookWithSecret:
        """Give it a new secret; both sign until the overlap ends."""
        row = access_endpoint(self.organization, webhook_id)
        overlap = timedelta(hours=body.overlap_hours)
        secret = rotate_webhook_secret(row, overlap=overlap, acting_user=None, address=self.address)
        return WebhookWithSecret.of(row, secret=secret)  # type: ignore[no-any-return]


class WebhookTest(ManagementView):
    @operation(MANAGE, body=Empty, answer=DeliveryWithLog)
    def post(self, webhook_id: str, body: Empty) -> DeliveryWithLog:
        """Send it a ``webhook.test`` event."""
        row = access_endpoint(self.organization, webhook_id)
        made = send_test_event(row, acting_user=None, address=self.address)
        return DeliveryWithLog.of(access_delivery(row, made.public_id))  # type: ignore[no-any-return]


class WebhookDeliveries(ManagementView):
    @operation(MANAGE, query=OrderedQuery, answer=Page[Delivery])
    def get(self, webhook_id: str, query: OrderedQuery) -> Page[Delivery]:
        """List what was sent to it in the last 30 days; attempts are counted."""
        row = access_endpoint(self.organization, webhook_id)
        found = list_page(get_deliveries(row), query.cursor)
        return page_of(found, [Delivery.of(each) for each in found.rows])


class OneWebhookDelivery(ManagementView):
    @operation(MANAGE, answer=DeliveryWithLog)
    def get(self, webhook_id: str, delivery_id: str) -> DeliveryWithLog:
        """Get a delivery with its attempts."""
        row = access_endpoint(self.organization, webhook_id)
        return DeliveryWithLog.of(access_delivery(row, delivery_id))  # type: ignore[no-any-return]


class WebhookReplay(ManagementView):
    @operation(MANAGE, body=Empty, answer=DeliveryWithLog)
    def post(self, webhook_id: str, delivery_id: str, body: Empty) -> DeliveryWithLog:
        """Send its event once more, under the same ``webhook-id``."""
        row = access_endpoint(self.organization, webhook_id)
        found = access_delivery(row, delivery_id)
        again = replay_delivery(found, acting_user=None, address=self.address)
        return DeliveryWithLog.of(access_delivery(row, again.public_id))  # type: ignore[no-any-return]
