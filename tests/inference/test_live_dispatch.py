"""The staff page of what this process's dispatcher does."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis.asyncio
from django.conf import settings
from django.test import Client
from django.urls import reverse

from inference.dispatch import Dispatcher
from tests.cast import Cast, build_cast
from tests.inference.callers import knows, make_job
from tests.inference.peer import Peer
from tests.tenants.database import in_thread

PAGE = "admin:inference_replica_live_dispatch"


@pytest.fixture(scope="module", autouse=True)
def static_folder() -> None:
    """WhiteNoise warns about a missing one; `collectstatic` makes it in an installation."""
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


def read(user: str) -> tuple[int, str]:
    cast: Cast = build_cast()
    client = Client()
    client.force_login(getattr(cast, user))
    answer = client.get(reverse(PAGE))
    return answer.status_code, answer.content.decode()


@pytest.mark.django_db(transaction=True)
async def test_staff_see_batches_decisions_and_scores(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        job = make_job()
        dispatcher.submit(job)
        await peer.take()
        status, page = await in_thread(read, "staff")

    assert status == 200
    for shown in (dispatcher.gateway, job.request_id, "scored", "chat-1", "latency", "empty"):
        assert shown in page, shown


@pytest.mark.django_db
def test_without_a_dispatcher_it_says_so() -> None:
    status, page = read("staff")
    assert status == 200 and "No gateway runs in this process." in page


@pytest.mark.django_db
@pytest.mark.parametrize("user", ["owner", "stranger"])
def test_customers_see_nothing_of_it(user: str) -> None:
    status, page = read(user)
    assert status in (302, 403, 404) and "Gateway" not in page
