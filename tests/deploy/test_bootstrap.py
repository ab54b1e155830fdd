"""``manage.py bootstrap``: what is missing is made once and audited; what is there stays."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from allauth.account.models import EmailAddress
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from billing.models import Price
from inference.actions import CHANNEL, create_deployment, deployment_name
from inference.models import Deployment, Model, ModelVersion
from tenants.actions import create_organization
from tenants.errors import InvalidInput
from tenants.models import AuditEvent, Plan, User

pytestmark = pytest.mark.django_db
EMAIL = "ops@example.org"
PASSWORD = "wide sluice, open gate"


def bootstrap(*arguments: str) -> str:
    said = io.StringIO()
    call_command("bootstrap", *arguments, stdout=said)
    return said.getvalue()


def pulled(
    name: str, version: str = "1", *, age_h: int = 0, is_pulled: bool = True
) -> ModelVersion:
    model, _ = Model.objects.get_or_create(name=name, defaults={"kind": "chat"})
    row = ModelVersion.objects.create(
        model=model,
        version=version,
        max_context_tokens=128,
        pulled_at=timezone.now() if is_pulled else None,
    )
    created_at = timezone.now() - timedelta(hours=age_h)
    ModelVersion.objects.filter(pk=row.pk).update(created_at=created_at)
    return row


def served() -> dict[str, str]:
    return {each.name: str(each.version) for each in Deployment.objects.select_related("version")}


def audited() -> list[str]:
    events = AuditEvent.objects.order_by("pk")
    assert all(event.acting_user is None for event in events)
    return [f"{event.action} {event.object_id}" for event in events]


def test_an_empty_installation_gets_plans_and_deployments_and_no_prices() -> None:
    pulled("meta/llama-3.1", "1", age_h=2)
    pulled("meta/llama-3.1", "2", age_h=1)
    pulled("meta/llama-3.1", "3", is_pulled=False)
    pulled("not-yet", is_pulled=False)
    pulled("turned-off")
    Model.objects.filter(name="turned-off").update(is_enabled=False)

    said = bootstrap()
    assert served() == {"meta-llama-3-1": "meta/llama-3.1@2"}
    assert [plan.slug for plan in Plan.objects.order_by("fair_share_weight")] == [
        "free", "pay-as-you-go", "enterprise"
    ]  # fmt: skip
    assert Plan.objects.get(is_default=True).slug == "pay-as-you-go"
    assert not Price.objects.exists() and not User.objects.exists()
    assert audited() == [
        "plan.created free",
        "plan.created pay-as-you-go",
        "plan.created enterprise",
        "deployment.created meta-llama-3-1",
    ]
    assert "Free, Pay-as-you-go (default), Enterprise" in said
    assert "meta-llama-3-1 of meta/llama-3.1@2" in said
    # What it is for: an organization can be made now.
    owner = User.objects.create_user("owner@example.org")
    assert create_organization("First", acting_user=owner).plan.slug == "pay-as-you-go"


def test_a_second_run_changes_nothing() -> None:
    pulled("smol")
    bootstrap("--demo-prices")
    before = audited()
    said = bootstrap("--demo-prices")
    assert audited() == before
    assert said.count("left as they are") == 2 and "made" not in said


def test_what_staff_edited_stays() -> None:
    pulled("smol", "1", age_h=1)
    bootstrap()
    Plan.objects.exclude(slug="free").delete()
    Plan.objects.update(name="Trial", requests_per_minute=1)
    Deployment.objects.update(name="renamed", is_enabled=False, max_replicas=2)
    pulled("smol", "2")  # a newer version waits for staff to switch

    said = bootstrap()
    assert served() == {"renamed": "smol@1"}
    deployment = Deployment.objects.get()
    assert (deployment.is_enabled, deployment.max_replicas) == (False, 2)
    plan = Plan.objects.get()
    assert (plan.name, plan.requests_per_minute) == ("Trial", 1)
    assert "No plan is the default one" in said


def test_a_taken_name_holds_up_no_other_model() -> None:
    create_deployment(pulled("a/b"), acting_user=None)
    pulled("a-b")
    pulled("c")
    said = bootstrap()
    assert served() == {"a-b": "a/b@1", "c": "c@1"}
    assert "none made of a-b@1: A deployment named a-b exists." in said


def test_demo_prices_are_made_when_asked_and_only_where_none_is() -> None:
    Price.objects.create(
        model="all-minilm-l6-v2",
        input_micros_per_million=7,
        cached_input_micros_per_million=7,
        output_micros_per_million=0,
    )
    bootstrap("--demo-prices")
    rates = dict(Price.objects.values_list("model", "input_micros_per_million"))
    assert rates == {"all-minilm-l6-v2": 7, "smollm2-135m-instruct": 20_000}
    assert [event for event in audited() if event.startswith("price.")] == [
        f"price.added {Price.objects.get(model='smollm2-135m-instruct').pk}"
    ]


def test_what_is_not_in_the_store_is_not_deployed() -> None:
    with pytest.raises(InvalidInput, match="not in the model store"):
        create_deployment(pulled("smol", is_pulled=False), acting_user=None)
    assert not Deployment.objects.exists() and not AuditEvent.objects.exists()


@pytest.mark.parametrize(
    "model, name",
    [
        ("smollm2-135m-instruct", "smollm2-135m-instruct"),
        ("meta/llama-3.1:8b", "meta-llama-3-1-8b"),
        ("m" * 120, "m" * 80),
    ],
)
def test_deployments_are_called_after_their_models(model: str, name: str) -> None:
    assert deployment_name(model) == name
    Deployment._meta.get_field("name").run_validators(name)


@pytest.mark.django_db(transaction=True)
def test_gateways_are_told_of_a_new_deployment() -> None:
    wanted = ("dbname", "user", "password", "host", "port")
    given = connection.get_connection_params()
    parameters = {name: given[name] for name in wanted if name in given}
    pulled("smol")
    with psycopg.connect(**parameters, autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}")
        bootstrap()
        assert len(list(listener.notifies(timeout=10, stop_after=1))) == 1
        bootstrap()
        assert not list(listener.notifies(timeout=0.2, stop_after=1))


# --- The staff user -----------------------------------------------------------------------


def test_staff_password_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_STAFF_PASSWORD", PASSWORD)
    said = bootstrap("--staff-email", " Ops@Example.org ")
    user = User.objects.get()
    assert user.email == EMAIL and user.check_password(PASSWORD)
    assert user.is_staff and user.is_superuser and user.is_active
    assert EmailAddress.objects.get(user=user).verified
    assert f"staff_user.created {user.pk}" in audited()
    assert PASSWORD not in said
    assert not AuditEvent.objects.filter(after__icontains=PASSWORD).exists()


def test_or_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLUICE_STAFF_PASSWORD", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\nanother line\n"))
    bootstrap("--staff-email", EMAIL)
    assert User.objects.get(email=EMAIL).check_password(PASSWORD)


def test_staff_who_are_there_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    User.objects.create_user(EMAIL, PASSWORD, is_staff=True)
    monkeypatch.setenv("SLUICE_STAFF_PASSWORD", "another one altogether")
    assert "left as they are" in bootstrap("--staff-email", EMAIL)
    user = User.objects.get()
    assert user.check_password(PASSWORD) and not user.is_superuser


def test_a_customer_is_not_promoted(monkeypatch: pytest.MonkeyPatch) -> None:
    User.objects.create_user(EMAIL, PASSWORD)
    monkeypatch.setenv("SLUICE_STAFF_PASSWORD", PASSWORD)
    with pytest.raises(CommandError, match="is no staff"):
        bootstrap("--staff-email", EMAIL)
    assert not User.objects.get().is_staff


@pytest.mark.parametrize(
    "email, password, told",
    [
        (EMAIL, "", "No password"),
        (EMAIL, "short", "too short"),
        (EMAIL, "12345678901234", "numeric"),
        (EMAIL, "x" * 5_000, "more than 4096 characters"),
        ("no address", PASSWORD, "valid email"),
        ("a" * 250 + "@example.org", PASSWORD, "at most 254|valid email"),
    ],
)
def test_bad_staff_is_refused_and_makes_nobody(
    email: str, password: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLUICE_STAFF_PASSWORD", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO(password))
    with pytest.raises(CommandError, match=told):
        bootstrap("--staff-email", email)
    assert not User.objects.exists() and not EmailAddress.objects.exists()


def test_bytes_that_are_no_text_are_refused_without_showing_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SLUICE_STAFF_PASSWORD", raising=False)
    monkeypatch.setattr(
        "sys.stdin", io.TextIOWrapper(io.BytesIO(b"secret\xff\n"), encoding="utf-8")
    )
    with pytest.raises(CommandError) as caught:
        bootstrap("--staff-email", EMAIL)
    assert "UTF-8" in str(caught.value) and "secret" not in str(caught.value)
    assert not User.objects.exists()
