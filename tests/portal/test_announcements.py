"""Announcements: told to whom they are for, while they hold, until somebody dismisses them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from tenants.models import Announcement, AnnouncementDismissal, AuditEvent, Plan
from tests.cast import Cast
from tests.portal.conftest import log_in
from tests.portal.staff_pages import url

pytestmark = pytest.mark.django_db


def tell(**fields: Any) -> Announcement:
    told = {"title": "Maintenance", "text": "Tonight from ten."} | fields
    return Announcement.objects.create(**told)


def is_told(cast: Cast, who: str = "owner") -> bool:
    organization = cast.other_organization if who == "stranger" else cast.organization
    client = log_in(getattr(cast, who))
    return "Tonight from ten." in client.get(f"/o/{organization.public_id}/").content.decode()


def test_everybody_reads_it_and_dismisses_it_for_themselves(cast: Cast) -> None:
    told = tell(level="warn")
    assert is_told(cast) and is_told(cast, "viewer") and is_told(cast, "stranger")
    address = reverse("announcement_dismiss", args=[cast.organization.public_id, told.pk])
    keys = f"/o/{cast.organization.public_id}/keys/"
    client = log_in(cast.owner)
    assert client.post(address, {"next": keys}).headers["Location"] == keys
    assert client.post(address, {"next": "https://evil.example"}).status_code == 302

    assert not is_told(cast)
    assert is_told(cast, "viewer") and is_told(cast, "stranger")
    assert AnnouncementDismissal.objects.count() == 1


def test_nobody_is_led_elsewhere(cast: Cast) -> None:
    told = tell()
    address = reverse("announcement_dismiss", args=[cast.organization.public_id, told.pk])
    for evil in ("https://evil.example/", "//evil.example/", "javascript:alert(1)"):
        answer = log_in(cast.owner).post(address, {"next": evil})
        assert answer.headers["Location"] == f"/o/{cast.organization.public_id}/"


def test_it_holds_for_its_plan_and_its_time(cast: Cast) -> None:
    now = timezone.now()
    other = Plan.objects.create(slug="other", name="Other")
    told = tell(plan=other)
    assert not is_told(cast)
    for fields, holds in (
        ({"plan": cast.organization.plan}, True),
        ({"starts_at": now + timedelta(hours=1)}, False),
        ({"starts_at": now - timedelta(hours=2), "ends_at": now - timedelta(hours=1)}, False),
        ({"ends_at": now + timedelta(hours=1)}, True),
    ):
        for name, value in fields.items():
            setattr(told, name, value)
        told.save()
        assert is_told(cast) is holds, fields


def test_what_may_not_be_dismissed_stays(cast: Cast) -> None:
    told = tell(is_dismissible=False)
    address = reverse("announcement_dismiss", args=[cast.organization.public_id, told.pk])
    assert log_in(cast.owner).post(address).status_code == 404
    assert log_in(cast.stranger).post(address).status_code == 404
    assert log_in(cast.owner).get(address).status_code == 405
    assert is_told(cast) and not AnnouncementDismissal.objects.exists()


def test_staff_write_change_and_delete_them_on_record(cast: Cast) -> None:
    client = log_in(cast.staff)
    form = {
        "title": "<b>Maintenance</b>",
        "text": "Tonight from ten.",
        "level": "bad",
        "starts_at_0": "2026-01-01",
        "starts_at_1": "10:00:00",
        "is_dismissible": "on",
    }
    added = client.post(url(Announcement, "add"), form)
    assert added.status_code == 302, added.context["errors"]
    told = Announcement.objects.get()
    assert (
        "&lt;b&gt;Maintenance"
        in log_in(cast.owner).get(f"/o/{cast.organization.public_id}/").content.decode()
    )
    early = form | {"ends_at_0": "2025-01-01", "ends_at_1": "10:00:00"}
    refused = client.post(url(Announcement, "change", told.pk), early)
    assert "It must end after it starts." in refused.content.decode()
    client.post(url(Announcement, "change", told.pk), form | {"title": "Done"})
    client.post(url(Announcement, "delete", told.pk), {"post": "yes"})

    assert not Announcement.objects.exists()
    recorded = AuditEvent.objects.filter(object_type="announcement").order_by("pk")
    assert [each.action.rpartition(".")[2] for each in recorded] == [
        "created",
        "changed",
        "deleted",
    ]
    assert {each.acting_user for each in recorded} == {cast.staff}
    assert log_in(cast.owner).post(url(Announcement, "add"), form, follow=True).status_code == 403
