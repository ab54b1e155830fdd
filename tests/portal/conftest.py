"""A client for each of the cast, and rate limits that start empty for every test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from redis import Redis

from tenants import access, actions, jobs
from tenants.mail import deliver_invitation
from tenants.models import IdentityProvider, Membership, Organization, Role, User
from tests.cast import Cast


def log_in(user: User, **options: bool) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client


def deliver_invitations() -> None:
    """What the control worker does: mail what was enqueued."""
    for held in jobs.claim("tests"):
        deliver_invitation(held)
        jobs.complete(held)


def form_id_in(html: str) -> str:
    """The identifier that the shown form carries for the key to be."""
    found = re.search(r'name="form_id" value="([^"]+)"', html)
    assert found, "the page has no key form"
    return found[1]


def without_tokens(html: bytes) -> str:
    """A page without what differs each time it is rendered."""
    return re.sub(r'csrfmiddlewaretoken" value="[^"]+"', "", html.decode())


@pytest.fixture(autouse=True)
def empty_rate_limits() -> Iterator[None]:
    """Counters live in Redis, which no transaction rolls back."""
    redis = Redis.from_url(settings.REDIS_URL)

    def forget() -> None:
        for key in redis.scan_iter("*:rl:*"):
            redis.delete(key)

    forget()
    yield
    forget()
    redis.close()


@pytest.fixture(scope="session", autouse=True)
def static_folder() -> None:
    """WhiteNoise warns about a missing one; `collectstatic` makes it in an installation."""
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def staff(cast: Cast) -> Client:
    return log_in(cast.staff)


@pytest.fixture
def inhabited(cast: Cast) -> Organization:
    """An organization with one of everything."""
    organization = cast.organization
    owner = access.get_actor(Membership.objects.get(organization=organization, user=cast.owner))
    actions.invite_member(organization, "guest@example.com", Role.VIEWER, actor=owner)
    actions.create_group(organization, "The group", acting_user=cast.owner)
    actions.create_role(organization, "The role", ["usage.read"], actor=owner)
    actions.create_service_account(cast.project, "The program", acting_user=cast.owner)
    IdentityProvider.objects.create(
        organization=organization, protocol="saml", slug="acme", name="The provider",
        settings={"requested_domains": ["acme.example"]}, is_enabled=True,
    )  # fmt: skip
    return organization
