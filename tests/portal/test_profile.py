"""A person's name, language and clock; and what pages do with them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polib
import pytest
from django.template import Context, Template
from django.test import Client
from django.utils import timezone, translation

from portal import translations
from portal.room_words import MARKED
from portal.templatetags.portal import compact, micros, percent, thousands
from tenants.models import (
    ApiKey,
    AuditEvent,
    IdentityProvider,
    Invitation,
    ProjectRole,
    Role,
    ScreeningPolicy,
    SemanticCache,
    User,
)
from tenants.webhooks import TYPES
from tests.cast import Cast
from tests.portal.conftest import log_in

PROFILE = "/accounts/profile/"


@pytest.fixture(scope="module", autouse=True)
def catalogues() -> None:
    translations.compile_all()


def save(client: Client, **fields: str) -> int:
    form = {"name": "Owner", "language": "", "time_zone": ""} | fields
    return client.post(PROFILE, form).status_code


@pytest.mark.django_db
def test_a_name_is_changed_and_stands_in_the_trail(cast: Cast) -> None:
    assert save(log_in(cast.owner), name=" Ada ") == 302
    assert User.objects.get(pk=cast.owner.pk).name == "Ada"
    event = AuditEvent.objects.filter(action="profile.changed").get()
    assert (event.before, event.after) == ({"name": "Owner"}, {"name": "Ada"})


@pytest.mark.django_db
@pytest.mark.parametrize(
    "fields",
    [{"name": "x" * 121}, {"name": "a\tb"}, {"language": "xx"}, {"time_zone": "Mars/Olympus"},
     {"time_zone": "../../etc/passwd"}],
)  # fmt: skip
def test_what_is_wrong_is_told_and_changes_nothing(cast: Cast, fields: dict[str, str]) -> None:
    before = User.objects.filter(pk=cast.owner.pk).values().get()
    page = log_in(cast.owner).post(PROFILE, {"name": "New", "language": "de"} | fields)
    assert page.status_code == 400
    assert page.context["form"].errors.keys() == fields.keys()
    after = User.objects.filter(pk=cast.owner.pk).values().get()
    assert after == before | {"last_login": after["last_login"]}


@pytest.mark.django_db
def test_the_language_is_the_profiles_else_the_browsers(cast: Cast) -> None:
    client = log_in(cast.owner)
    page = f"/o/{cast.organization.public_id}/usage/"
    english = client.get(page).content.decode()
    german = client.get(page, headers={"Accept-Language": "de-AT,en;q=0.5"}).content.decode()
    assert '<html lang="en">' in english and "Skip to content" in english
    assert '<html lang="de">' in german and "Zum Inhalt springen" in german
    save(client, language="de")
    assert '<html lang="de">' in client.get(page).content.decode()
    save(client, language="en")
    assert (
        '<html lang="en">' in client.get(page, headers={"Accept-Language": "de"}).content.decode()
    )


@pytest.mark.django_db
def test_programs_and_staff_are_answered_in_english(cast: Cast) -> None:
    User.objects.filter(pk=cast.staff.pk).update(language="de")
    page = log_in(cast.staff).get("/admin/", headers={"Accept-Language": "de"})
    assert page["Content-Language"] == "en"
    answer = Client().get("/v1/organization/users", headers={"Accept-Language": "de"})
    assert answer["Content-Language"] == "en"
    assert answer.status_code == 401


@pytest.mark.django_db
def test_times_are_on_the_readers_clock(cast: Cast) -> None:
    client = log_in(cast.owner)
    page = f"/o/{cast.organization.public_id}/"
    assert "Times are in UTC." in client.get(page).content.decode()
    client.cookies["zone"] = "Asia/Tokyo"
    assert "Times are in Asia/Tokyo." in client.get(page).content.decode()
    client.cookies["zone"] = "Nowhere<b>"
    assert "Times are in UTC." in client.get(page).content.decode()
    save(client, time_zone="America/New_York")
    client.cookies["zone"] = "Asia/Tokyo"
    assert "Times are in America/New_York." in client.get(page).content.decode()


def test_a_moment_names_its_zone_and_its_exact_second() -> None:
    at = datetime(timezone.now().year, 1, 31, 23, 30, tzinfo=UTC)
    moment = Template("{% load portal %}{% moment at %}")
    with timezone.override("Asia/Tokyo"):
        assert moment.render(Context({"at": at})) == (
            f'<time datetime="{at.year}-02-01T08:30:00+09:00"'
            f' title="{at.year}-02-01 08:30:00 JST">1 Feb, 08:30</time>'
        )


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(seconds=5), "just now"),
        (timedelta(minutes=1), "1 minute ago"),
        (timedelta(hours=5), "5 hours ago"),
        (timedelta(days=3), "3 days ago"),
    ],
)
def test_how_long_ago(age: timedelta, text: str) -> None:
    html = Template("{% load portal %}{% ago at %}").render(Context({"at": timezone.now() - age}))
    assert f">{text}<" in html


def test_numbers_are_written_as_the_language_does() -> None:
    with translation.override("de"):
        assert thousands(1234567) == "1.234.567"
        assert micros(1_234_500_000) == "$1.234,50"
        assert percent(0.0345) == "3,5 %"
        assert compact(1_234_567) == "1,2M"


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0"), (999, "999"), (1000, "1k"), (1999, "1.9k"), (-1500, "−1.5k"), (10**9, "1B"),
     (1_234_567_890_123_456, "1,234.5T")],
)  # fmt: skip
def test_compact(amount: int, text: str) -> None:
    assert compact(amount) == text


def test_every_text_is_translated() -> None:
    """`make texts` collects what a change brought; the language stays complete."""
    for path in translations.catalogues():
        catalogue = polib.pofile(str(path))
        left = [entry.msgid for entry in catalogue if not entry.translated() or entry.fuzzy]
        assert left == [], path
        for entry in catalogue:
            if entry.msgid_plural:
                # The form for one may say the number in a word ("a minute").
                one, *more = entry.msgstr_plural.values()
                assert _fields(one) == _fields(entry.msgid), entry.msgid
                assert {frozenset(_fields(text)) for text in more} == {
                    frozenset(_fields(entry.msgid_plural))
                }, entry.msgid
            else:
                assert _fields(entry.msgstr) == _fields(entry.msgid), entry.msgid


def test_the_words_of_rooms_are_marked() -> None:
    """A role or an event that a room adds would stay English on German pages."""
    kinds = (Role, ProjectRole, ApiKey.Kind, Invitation.Status, ScreeningPolicy, SemanticCache,
             IdentityProvider.Protocol)  # fmt: skip
    words = {str(label) for kind in kinds for label in kind.labels} | set(TYPES.values())
    assert words - set(MARKED) == set()


def _fields(text: str) -> set[str]:
    return set(re.findall(r"%\(\w+\)[sd]|\{\w*\}", text))


def test_catalogues_are_compiled_when_they_change(tmp_path: Path) -> None:
    folder = tmp_path / "de" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    (folder / "django.po").write_text('msgid "Save"\nmsgstr "Speichern"\n')
    assert translations.compile_all(tmp_path) == [folder / "django.mo"]
    assert translations.compile_all(tmp_path) == []
    assert polib.mofile(str(folder / "django.mo")).find("Save").msgstr == "Speichern"
