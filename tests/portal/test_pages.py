"""Overview, usage and settings; the frame around them; limits and headers of every page."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client
from django.utils import timezone
from redis.exceptions import ConnectionError as RedisConnectionError

from billing.models import UsageEvent
from portal import ratelimits
from tenants.models import (
    AuditEvent,
    Membership,
    Organization,
    PlanModelLimit,
    Role,
    ScreeningPolicy,
    User,
)
from tests.cast import PASSWORD, Cast
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db


def add_usage(cast: Cast, count: int, *, organization: Organization | None = None) -> None:
    organization = organization or cast.organization
    key = organization.api_keys.get(kind="project")
    now = timezone.now()
    UsageEvent.objects.bulk_create(
        UsageEvent(
            request_id=f"req_{organization.pk}_{number}",
            organization=organization,
            project=key.project,
            api_key=key,
            model="smol" if number % 2 else "large",
            endpoint="chat.completions",
            status="completed",
            source="gateway",
            prompt_tokens=1000,
            cached_tokens=0,
            completion_tokens=234,
            started_at=now - timedelta(minutes=number),
            duration_ms=1500,
            cost_micros=1_500,
        )
        for number in range(count)
    )


@pytest.fixture
def quick_hashes(settings: Any) -> None:
    """For tests that count tries: what is hashed, and how well, does not matter there."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def url(cast: Cast, path: str = "") -> str:
    return f"/o/{cast.organization.public_id}/{path}"


def test_home_leads_to_the_organization_seen_last(cast: Cast) -> None:
    Membership.objects.create(
        organization=cast.other_organization, user=cast.owner, role=Role.VIEWER
    )
    client = log_in(cast.owner)
    assert client.get("/")["Location"] == url(cast)
    other = f"/o/{cast.other_organization.public_id}/"
    switcher = client.get(url(cast)).content.decode()
    assert other in switcher
    client.get(other)
    assert client.get("/")["Location"] == other


def test_someone_without_an_organization_makes_one(cast: Cast) -> None:
    client = log_in(cast.staff)
    assert client.get("/")["Location"] == "/organizations/new/"
    made = client.post("/organizations/new/", {"name": "Fresh"})
    organization = Organization.objects.get(name="Fresh")
    assert made["Location"] == f"/o/{organization.public_id}/"
    assert organization.memberships.get().user == cast.staff


def test_the_first_key_is_made_on_the_overview(cast: Cast) -> None:
    client = log_in(cast.staff)
    made = client.post("/organizations/new/", {"name": "Fresh"})
    page = client.get(made["Location"])
    fields = re.findall(r'<(?:input|select)[^>]* name="(\w+)"', page.content.decode())
    form = {
        name: page.context["form"][name].value() or ""
        for name in fields
        if name in ("form_id", "name")
    }
    form["owner"] = Organization.objects.get(name="Fresh").projects.get().public_id
    assert {"form_id", "name", "owner"} <= set(fields)
    assert client.post(made["Location"] + "keys/new/", form).status_code == 201


def test_overview_shows_the_last_days_and_the_plan(cast: Cast) -> None:
    add_usage(cast, 3)
    plan = cast.organization.plan
    plan.monthly_tokens = 1_000_000
    plan.save()
    html = log_in(cast.owner).get(url(cast)).content.decode()
    assert "3,000" in html and "702" in html
    assert "of 1,000,000" in html
    assert "0 of 10,000" in html
    assert "Owner&#x27;s key" in html


@pytest.mark.parametrize("period", ["24h", "7d", "30d", "month", "", "nonsense", "\x00", "é" * 999])
def test_every_period_opens(cast: Cast, period: str) -> None:
    add_usage(cast, 2)
    page = log_in(cast.owner).get(url(cast, "usage/"), {"period": period})
    assert page.status_code == 200
    expected = period if period in {"24h", "7d", "30d", "month"} else "7d"
    assert page.context["view"].period.name == expected


@pytest.mark.parametrize("who", ["owner", "admin"])
def test_settings_are_changed_and_audited(cast: Cast, who: str) -> None:
    user = getattr(cast, who)
    form = {
        "name": "Renamed",
        "screening_policy": "block",
        "answers_kept_days": "0",
    }
    saved = log_in(user).post(url(cast, "settings/"), form)
    assert saved.status_code == 302
    organization = Organization.objects.get(pk=cast.organization.pk)
    assert organization.name == "Renamed"
    assert organization.screening_policy == ScreeningPolicy.BLOCK
    assert organization.answers_kept_days == 0
    event = AuditEvent.objects.get(action="organization.updated")
    assert (event.acting_user, event.before["name"], event.address) == (
        user,
        "Acme",
        "127.0.0.1",
    )


@pytest.mark.parametrize("who", ["member", "billing", "viewer"])
def test_others_read_the_settings(cast: Cast, who: str) -> None:
    client = log_in(getattr(cast, who))
    page = client.get(url(cast, "settings/")).content.decode()
    assert 'name="screening_policy"' not in page
    assert "Owners and admins change these" in page
    form = {"name": "Taken", "screening_policy": "allow"}
    assert client.post(url(cast, "settings/"), form).status_code == 403
    cast.organization.refresh_from_db()
    assert cast.organization.name == "Acme"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "a\tb"),
        ("screening_policy", "x"),
        ("answers_kept_days", "366"),
        ("answers_kept_days", "-1"),
    ],
)
def test_bad_settings_change_nothing(cast: Cast, field: str, value: str) -> None:
    form = {"name": "New", "screening_policy": "allow", "answers_kept_days": ""}
    answer = log_in(cast.owner).post(url(cast, "settings/"), form | {field: value})
    assert answer.status_code == 400
    cast.organization.refresh_from_db()
    assert cast.organization.name == "Acme"


def test_theme_is_remembered_without_script(cast: Cast) -> None:
    client = log_in(cast.owner)
    answer = client.post("/theme/", {"theme": "dark", "next": url(cast)})
    assert answer["Location"] == url(cast)
    assert 'data-theme="dark"' in client.get(url(cast)).content.decode()
    client.cookies["theme"] = '"><script>'
    assert "data-theme=" not in client.get(url(cast)).content.decode().split("<head>")[0]
    assert client.post("/theme/", {"next": "https://evil.example/"})["Location"] == "/"


@pytest.mark.parametrize("engine", ["vllm", "simulated"])
def test_every_page_says_when_answers_are_made_up(cast: Cast, settings: Any, engine: str) -> None:
    settings.ENGINE = engine
    client, staff = log_in(cast.owner), log_in(cast.staff)
    pages = [client.get(url(cast, path)) for path in ("", "keys/", "usage/", "settings/", "no/")]
    pages += [Client().get("/accounts/login/"), staff.get("/admin/")]
    pages += [staff.get("/admin/tenants/plan/")]
    for page in pages:
        said = "Simulated engine: answers are made up" in page.content.decode()
        assert said == (engine == "simulated"), page.request["PATH_INFO"]


def test_pages_carry_no_inline_script_or_style(cast: Cast) -> None:
    add_usage(cast, 2)
    client = log_in(cast.owner)
    pages = [client.get(url(cast, p)) for p in ("", "keys/", "keys/new/", "usage/", "settings/")]
    for page in [*pages, Client().get("/accounts/signup/")]:
        html = page.content.decode()
        assert " style=" not in html
        assert "<style" not in html
        assert " onclick" not in html
        assert html.count("<script") == html.count('<script src="/static/portal/') >= 1
        policy = page["Content-Security-Policy"]
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert "https:" not in policy
    assert "no-store" in pages[0]["Cache-Control"]


@pytest.mark.parametrize(
    ("path", "page", "form", "by"),
    [
        (
            "/accounts/login/",
            "log-in",
            {"login": "x@example.com", "password": "no"},
            "email",
        ),
        (
            "/accounts/login/",
            "log-in",
            {"login": "{}@example.com", "password": "n"},
            "address",
        ),
        ("/accounts/signup/", "sign-up", {"email": "{}@example.com"}, "address"),
        (
            "/accounts/password/reset/",
            "password-reset",
            {"email": "x@example.com"},
            "email",
        ),
        (
            "/accounts/password/reset/",
            "password-reset",
            {"email": "{}@example.com"},
            "address",
        ),
    ],
)
@pytest.mark.usefixtures("quick_hashes")
def test_beyond_its_limit_a_page_answers_429(
    path: str, page: str, form: dict[str, str], by: str
) -> None:
    limit = next(limit for limit in ratelimits.LIMITS[page] if limit.by == by)
    allowed = int(limit.rate.partition("/")[0])
    client = Client()
    for number in range(allowed):
        filled = {name: value.format(number) for name, value in form.items()}
        assert client.post(path, filled).status_code in {200, 302}, number
    refused = client.post(path, {name: value.format("last") for name, value in form.items()})
    assert refused.status_code == 429
    assert int(refused["Retry-After"]) > 0
    assert "Too many tries" in refused.content.decode()
    assert client.get(path).status_code == 200


@pytest.mark.usefixtures("quick_hashes")
def test_a_forwarded_address_counts_only_behind_a_trusted_proxy(settings: Any) -> None:
    """Or a guesser would be a new client with every header they invent."""

    def guess(number: int) -> int:
        forwarded = {"HTTP_X_FORWARDED_FOR": f"203.0.113.{number}"}
        form = {"login": f"{number}@example.com", "password": "x"}
        return Client().post("/accounts/login/", form, **forwarded).status_code

    assert [guess(number) for number in range(31)][-1] == 429
    settings.TRUSTED_PROXIES = ["127.0.0.0/8"]
    assert guess(99) == 200


def test_pages_stay_usable_while_redis_is_down(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise RedisConnectionError("connection refused")

    monkeypatch.setattr("django.core.cache.backends.redis.RedisCache.add", refuse)
    form = {"login": cast.owner.email, "password": PASSWORD}
    assert Client().post("/accounts/login/", form).status_code == 302


def test_error_pages_tell_nothing(cast: Cast) -> None:
    client = log_in(cast.owner)
    client.raise_request_exception = False
    assert "Nothing here" in client.get("/absent/").content.decode()
    bad = client.get("/", headers={"host": "evil.example"})
    assert bad.status_code == 400
    assert "evil.example" not in bad.content.decode()


def test_a_broken_page_answers_500_in_our_design(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.ENGINE = "simulated"

    def broken(*args: object) -> None:
        raise RuntimeError("the secret detail")

    monkeypatch.setattr("billing.analysis.analyse", broken)
    client = log_in(cast.owner)
    client.raise_request_exception = False
    page = client.get(url(cast))
    assert page.status_code == 500
    html = page.content.decode()
    assert "Something broke on our side" in html
    assert "Simulated engine" in html
    assert "secret detail" not in html


# --- The second factor, the plan ------------------------------------------------------------


def second_factor_of(user: User) -> None:
    Authenticator.objects.create(user=user, type="totp", data={})


def test_an_owner_requires_a_second_factor_and_hears_whom_it_locks_out(cast: Cast) -> None:
    second_factor_of(cast.owner)
    second_factor_of(cast.viewer)
    client = log_in(cast.owner)
    page = url(cast, "settings/second-factor/")
    asked = client.get(page).content.decode()
    assert "Members without one</dt><dd>3<" in asked
    assert cast.member.email in asked and cast.viewer.email not in asked
    cast.organization.refresh_from_db()
    assert not cast.organization.requires_mfa, "the question must not decide"
    for _ in range(2):  # the second click of a double click does not turn it off again
        assert client.post(page, {"requires": "True"}).status_code == 302
    cast.organization.refresh_from_db()
    assert cast.organization.requires_mfa
    event = AuditEvent.objects.get(action="organization.updated")
    assert (event.before, event.after) == ({"requires_mfa": "False"}, {"requires_mfa": "True"})
    for user in (cast.owner, cast.member):  # neither session has shown one
        closed = log_in(user).get(url(cast))
        assert closed["Location"] == url(cast, "second-factor/")


def test_an_owner_without_one_cannot_lock_themselves_out(cast: Cast) -> None:
    client = log_in(cast.owner)
    page = client.post(url(cast, "settings/second-factor/"), {"requires": "True"}, follow=True)
    assert "Set up your own second factor first" in page.content.decode()
    cast.organization.refresh_from_db()
    assert not cast.organization.requires_mfa


@pytest.mark.parametrize("who", ["admin", "member", "billing", "viewer"])
def test_only_owners_decide_about_second_factors(cast: Cast, who: str) -> None:
    user = getattr(cast, who)
    second_factor_of(user)
    client = log_in(user)
    assert "settings/second-factor/" not in client.get(url(cast, "settings/")).content.decode()
    for method in (client.get, client.post):
        answer = method(url(cast, "settings/second-factor/"), {"requires": "True"})
        assert answer.status_code == 403
    cast.organization.refresh_from_db()
    assert not cast.organization.requires_mfa


def test_settings_show_what_the_plan_allows(cast: Cast) -> None:
    plan = cast.organization.plan
    PlanModelLimit.objects.create(plan=plan, model="large", requests_per_day=7)
    Organization.objects.filter(pk=cast.organization.pk).update(
        is_prepaid=True, requests_per_minute=5
    )
    page = log_in(cast.viewer).get(url(cast, "settings/"))
    html = page.content.decode()
    assert "Prepaid credit left" in html and "$0.00" in html
    assert "large" in html and "Requests a day 7" in html
    assert ("Requests a minute", "10,000") in page.context["limits"]
    plan.allows_custom_limits = True
    plan.save()
    page = log_in(cast.viewer).get(url(cast, "settings/"))
    assert ("Requests a minute", "5") in page.context["limits"]
