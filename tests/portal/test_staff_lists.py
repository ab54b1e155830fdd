"""What staff look at is on record; lists and searches cost the same among many rows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from inference.models import Deployment, Model, ModelVersion
from tenants.models import (
    ApiKey,
    AuditEvent,
    Group,
    IdentityProvider,
    Invitation,
    Membership,
    Organization,
    Plan,
    User,
)
from tenants.staff_access import AGAIN_AFTER
from tests.cast import Cast, make_user
from tests.portal.conftest import log_in
from tests.portal.staff_pages import url, viewed

pytestmark = pytest.mark.django_db


# --- Every look ----------------------------------------------------------------------------


def test_a_look_is_put_on_record_once_an_hour(
    cast: Cast, staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = url(Organization, "change", cast.organization.pk)
    for _ in range(3):
        staff.get(change, REMOTE_ADDR="203.0.113.9")
    event = AuditEvent.objects.get(action="staff.viewed")
    assert (event.organization, event.actor_type) == (cast.organization, "staff")
    assert (event.object_type, event.object_id) == ("organization", cast.organization.public_id)
    assert (event.acting_user, event.address) == (cast.staff, "203.0.113.9")

    log_in(make_user("second", is_staff=True, is_superuser=True)).get(change)
    assert viewed() == 2
    later = timezone.now() + AGAIN_AFTER + timedelta(seconds=1)
    monkeypatch.setattr(timezone, "now", lambda: later)
    log_in(cast.staff).get(change)
    assert viewed() == 3


@pytest.mark.parametrize("page", ["change", "history", "suspend"])
def test_every_page_of_an_object_counts(cast: Cast, staff: Client, page: str) -> None:
    where = (
        f"/admin/tenants/organization/{cast.organization.pk}/suspend/"
        if page == "suspend"
        else url(Organization, page, cast.organization.pk)
    )
    assert staff.get(where).status_code == 200
    assert viewed(organization=cast.organization, object_type="organization") == 1


def test_lists_count_as_one_object_and_belong_to_whom_they_are_filtered_by(
    cast: Cast, staff: Client
) -> None:
    listing = url(ApiKey, "changelist")
    staff.get(listing)
    staff.get(listing, {"q": "x"})
    assert viewed(organization=None, object_type="apikey_list") == 1
    staff.get(listing, {"organization__id__exact": cast.organization.pk})
    assert viewed(organization=cast.organization, object_type="apikey_list") == 1
    staff.get(listing, {"organization__id__exact": "x" * 9})
    assert viewed() == 2


def test_what_shows_no_tenant_is_not_recorded(cast: Cast, staff: Client) -> None:
    staff.get(url(Plan, "changelist"))
    staff.get(url(Plan, "change", cast.organization.plan_id))
    log_in(cast.owner).get(url(Organization, "change", cast.organization.pk))
    staff.get(url(Organization, "change", 2**40))
    staff.get(url(Organization, "add"))

    assert viewed() == 0


def test_a_persons_page_counts_as_well(cast: Cast, staff: Client) -> None:
    staff.get(url(User, "change", cast.viewer.pk))
    assert viewed(object_type="user", object_id=cast.viewer.public_id, organization=None) == 1


# --- Lists and searches --------------------------------------------------------------------


def found(client: Client, model: Any, term: str) -> int:
    page = client.get(url(model, "changelist"), {"q": term})
    assert page.status_code == 200
    return len(page.context["cl"].result_list)


def test_what_staff_search_by(cast: Cast, inhabited: Organization, staff: Client) -> None:
    organization = cast.organization
    assert found(staff, Organization, "aCM") == 1
    assert found(staff, Organization, "cme") == 0
    assert found(staff, Organization, organization.public_id) == 1
    assert found(staff, Organization, cast.member.email.upper()) == 1
    assert found(staff, ApiKey, organization.public_id) == organization.api_keys.count()
    assert found(staff, ApiKey, cast.owner_api_key.public_id) == 1
    assert found(staff, ApiKey, "owner's") == 1
    made = ApiKey.objects.filter(created_by=cast.stranger).count()
    assert found(staff, ApiKey, cast.stranger.email) == made
    assert found(staff, User, cast.stranger.email) == 1
    assert found(staff, User, cast.stranger.public_id) == 1
    assert found(staff, Membership, cast.viewer.email) == 1
    assert found(staff, AuditEvent, cast.owner_api_key.public_id) == 1
    assert found(staff, AuditEvent, organization.public_id) > 1
    assert found(staff, AuditEvent, cast.stranger.email) > 1
    assert found(staff, Invitation, "GUEST") == 1
    assert found(staff, IdentityProvider, "acme") == 1
    for model in (Organization, ApiKey, User, AuditEvent, Membership, Group, Invitation):
        assert found(staff, model, "nobody@example.org") == 0
        assert found(staff, model, "org_0000000000000000") == 0
        assert found(staff, model, "100%_\\'\"") == 0


def test_a_list_is_counted_no_further_than_it_is_paged(
    cast: Cast, staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenants.staff_lists.MOST_COUNTED", 2)
    with CaptureQueriesContext(connection) as queries:
        page = staff.get(url(ApiKey, "changelist"))
    assert page.context["cl"].result_count == 2
    counts = [query["sql"] for query in queries if "COUNT(" in query["sql"]]
    assert counts and all("LIMIT 2" in sql for sql in counts if "tenants_apikey" in sql)


# --- Capacity ------------------------------------------------------------------------------


def test_a_deployment_is_kept_only_for_whom_the_plan_allows_it(cast: Cast, staff: Client) -> None:
    model = Model.objects.create(name="smol", kind="chat")
    version = ModelVersion.objects.create(
        model=model, version="1", source_uri="pypi://x", max_context_tokens=2048
    )
    empty = staff.get(url(Deployment, "add")).context["adminform"].form
    form = {field.name: field.value() for field in empty if field.value() is not None}
    form |= {"name": "kept", "version": version.pk, "dedicated_to": cast.organization.pk}
    refused = staff.post(url(Deployment, "add"), form)
    assert "plan" in str(refused.context["errors"]) and not Deployment.objects.exists()

    Plan.objects.update(allows_dedicated_capacity=True)
    assert staff.post(url(Deployment, "add"), form).status_code == 302
    assert Deployment.objects.get().dedicated_to == cast.organization
