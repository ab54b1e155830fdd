"""Webhooks in a real browser: added, tested, read; wide, dark and as narrow as phones are."""

from __future__ import annotations

from typing import Any

from tenants import actions
from tenants.models import WebhookEndpoint
from tests.cast import build_cast, default_plan
from tests.jobs import run_due_jobs
from tests.portal.test_browser import (
    chromium,  # noqa: F401 - a fixture of open_page
    fits,
    log_in,
    open_page,  # noqa: F401 - a fixture
    pytestmark,  # noqa: F401 - holds here too
    shoot,
)
from tests.tenants.receiver import Receiver

PHONE = {"width": 360, "height": 780}
LONG = "https://hooks.example.com/" + "a-very-long-path-without-a-break" * 5


def test_webhooks(open_page: Any) -> None:  # noqa: F811 - the fixture
    default_plan()
    cast = build_cast()
    page = open_page()
    log_in(page, cast.owner.email)
    root = f"/o/{cast.organization.public_id}/settings/webhooks/"
    with Receiver(answer=b'{"received": true}') as receiver:
        page.goto(root)
        shoot(page, "webhooks-none")
        page.get_by_role("link", name="Add webhook", exact=True).click()
        page.get_by_label("URL").fill(receiver.url)
        page.get_by_label("Description").fill("Batches to the data team")
        page.get_by_label("batch.completed").check()
        page.get_by_label("budget.exceeded").check()
        shoot(page, "webhooks-form")
        page.get_by_role("button", name="Add webhook").click()
        page.get_by_text("Copy the signing secret now").wait_for()
        shoot(page, "webhooks-secret")
        page.get_by_role("link", name="I have copied it").click()
        page.get_by_role("button", name="Send test event").click()
        page.get_by_text("No attempt yet").wait_for()
        run_due_jobs()
        page.reload()
        page.get_by_text("received").wait_for()
        shoot(page, "webhooks-delivery")
        receiver.status, receiver.answer = 503, b"<html><body>Service unavailable</body></html>" * 9
        endpoint = WebhookEndpoint.objects.get()
        actions.send_test_event(endpoint, acting_user=cast.owner)
        run_due_jobs()
        terms = actions.EndpointTerms(LONG, ("batch.failed",), is_enabled=False)
        actions.create_webhook(cast.organization, terms, acting_user=cast.owner)
        shown = (
            ("list", ""),
            ("log", f"{endpoint.public_id}/"),
            ("form", "new/"),
            ("failing", f"{endpoint.public_id}/deliveries/{newest(endpoint)}/"),
        )
        for look, options in (
            ("dark", {"color_scheme": "dark"}),
            ("phone", {"viewport": PHONE}),
        ):
            other = open_page(storage_state=page.context.storage_state(), **options)
            for name, path in shown:
                other.goto(root + path)
                assert fits(other), (look, name)
                shoot(other, f"webhooks-{name}-{look}")


def newest(endpoint: WebhookEndpoint) -> str:
    return str(endpoint.deliveries.order_by("-pk").values_list("public_id", flat=True)[0])
