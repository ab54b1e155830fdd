"""``manage.py create_demo``: once, repeatable, and repairing what no longer works."""

from __future__ import annotations

import stat
import subprocess
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from billing.models import Price
from inference.models import Deployment, Model, ModelVersion
from tenants import keys
from tenants.actions import revoke_api_key
from tenants.models import ApiKey, Organization, Plan, User
from workers.management.commands.create_demo import OWNER_EMAIL, STAFF_EMAIL, read_exports

# The command asks whether a key works as a gateway does, which ends its connection.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def state_dir(tmp_path: Path, settings) -> Path:  # type: ignore[no-untyped-def]
    settings.STATE_DIR = tmp_path
    settings.SLUICE_URL = "http://127.0.0.1:8100"
    for name, kind in (("smollm2-135m-instruct", "chat"), ("all-minilm-l6-v2", "embedding")):
        model = Model.objects.create(name=name, kind=kind)
        ModelVersion.objects.create(
            model=model, version="1", path=name, max_context_tokens=128, pulled_at=timezone.now()
        )
    return tmp_path


def create_demo(state_dir: Path) -> tuple[dict[str, str], str]:
    said = StringIO()
    call_command("create_demo", stdout=said)
    return read_exports(state_dir / "demo.env"), said.getvalue()


def key_of(text: str) -> ApiKey:
    return ApiKey.objects.get(lookup=keys.lookup_of(text))


def test_first_run_makes_everything_once(state_dir: Path) -> None:
    demo, _ = create_demo(state_dir)
    assert Plan.objects.get(is_default=True).name == "Pay-as-you-go"
    assert Plan.objects.count() == 3
    owner, staff = User.objects.get(email=OWNER_EMAIL), User.objects.get(email=STAFF_EMAIL)
    assert owner.check_password(demo["SLUICE_OWNER_PASSWORD"])
    assert not owner.is_staff
    assert staff.check_password(demo["SLUICE_STAFF_PASSWORD"])
    assert staff.is_staff and staff.is_superuser
    mine, other = key_of(demo["OPENAI_API_KEY"]), key_of(demo["SLUICE_OTHER_API_KEY"])
    assert (mine.organization.name, other.organization.name) == ("Acme", "Globex")
    admin, other_admin = key_of(demo["SLUICE_ADMIN_KEY"]), key_of(demo["SLUICE_OTHER_ADMIN_KEY"])
    assert (admin.kind, admin.organization.name) == ("admin", "Acme")
    assert (other_admin.kind, other_admin.organization.name) == ("admin", "Globex")
    assert set(Deployment.objects.values_list("name", flat=True)) == {
        "smollm2-135m-instruct",
        "all-minilm-l6-v2",
    }
    assert Price.objects.count() == 2

    again, said = create_demo(state_dir)
    assert again == demo
    assert "as it was" in said
    assert (ApiKey.objects.count(), Organization.objects.count(), User.objects.count()) == (4, 2, 3)
    assert Price.objects.count() == 2


def test_file_is_private_and_a_shell_reads_it(state_dir: Path) -> None:
    demo, _ = create_demo(state_dir)
    path = state_dir / "demo.env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shell = subprocess.run(
        ["sh", "-c", '. "$1"; env', "sh", str(path)],
        env={},
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    assert demo.items() <= dict(line.split("=", 1) for line in shell.stdout.splitlines()).items()
    assert demo["OPENAI_BASE_URL"] == "http://127.0.0.1:8100/v1"


def test_moved_port_changes_addresses_only(state_dir: Path, settings) -> None:  # type: ignore[no-untyped-def]
    before, _ = create_demo(state_dir)
    settings.SLUICE_URL = "http://127.0.0.1:8200"
    after, said = create_demo(state_dir)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"SLUICE_URL", "OPENAI_BASE_URL"}
    assert "Renewed" not in said


def test_lost_file_gets_new_secrets_and_old_keys_are_revoked(state_dir: Path) -> None:
    before, _ = create_demo(state_dir)
    (state_dir / "demo.env").unlink()
    after, _ = create_demo(state_dir)
    assert User.objects.get(email=OWNER_EMAIL).check_password(after["SLUICE_OWNER_PASSWORD"])
    for name in (
        "OPENAI_API_KEY", "SLUICE_OTHER_API_KEY", "SLUICE_ADMIN_KEY", "SLUICE_OTHER_ADMIN_KEY",
    ):  # fmt: skip
        assert key_of(after[name]).is_live
        assert not key_of(before[name]).is_live
    assert Organization.objects.count() == 2


def test_revoked_key_and_changed_password_are_renewed(state_dir: Path) -> None:
    before, _ = create_demo(state_dir)
    revoke_api_key(key_of(before["OPENAI_API_KEY"]), acting_user=None)
    staff = User.objects.get(email=STAFF_EMAIL)
    staff.set_password("another one")
    staff.save()
    after, said = create_demo(state_dir)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"OPENAI_API_KEY", "SLUICE_STAFF_PASSWORD"}
    assert "OPENAI_API_KEY, SLUICE_STAFF_PASSWORD" in said
    staff.refresh_from_db()
    assert staff.check_password(after["SLUICE_STAFF_PASSWORD"])


def test_another_pepper_makes_new_keys(state_dir: Path, settings) -> None:  # type: ignore[no-untyped-def]
    before, _ = create_demo(state_dir)
    settings.API_KEY_PEPPER = "p" * 64
    after, _ = create_demo(state_dir)
    assert after["OPENAI_API_KEY"] != before["OPENAI_API_KEY"]
    key = key_of(after["OPENAI_API_KEY"])
    assert bytes(key.secret_hmac) == keys.digest(after["OPENAI_API_KEY"], "p" * 64)


def test_fresh_database_keeps_the_passwords_of_an_old_file(state_dir: Path) -> None:
    (state_dir / "demo.env").write_text(
        "export SLUICE_OWNER_PASSWORD=kept-from-before\nexport OPENAI_API_KEY=sk-proj-gone\n"
    )
    demo, _ = create_demo(state_dir)
    assert demo["SLUICE_OWNER_PASSWORD"] == "kept-from-before"
    assert User.objects.get(email=OWNER_EMAIL).check_password("kept-from-before")
    assert key_of(demo["OPENAI_API_KEY"]).is_live


def test_other_organizations_key_in_the_file_is_not_taken(state_dir: Path) -> None:
    before, _ = create_demo(state_dir)
    path = state_dir / "demo.env"
    path.write_text(
        path.read_text().replace(before["OPENAI_API_KEY"], before["SLUICE_OTHER_API_KEY"])
    )
    after, _ = create_demo(state_dir)
    assert key_of(after["OPENAI_API_KEY"]).organization.name == "Acme"


def test_a_key_of_another_kind_in_the_file_is_not_taken(state_dir: Path) -> None:
    before, _ = create_demo(state_dir)
    path = state_dir / "demo.env"
    path.write_text(path.read_text().replace(before["SLUICE_ADMIN_KEY"], before["OPENAI_API_KEY"]))
    after, _ = create_demo(state_dir)
    assert key_of(after["SLUICE_ADMIN_KEY"]).kind == "admin"
    assert after["OPENAI_API_KEY"] == before["OPENAI_API_KEY"]


def test_one_model_may_be_served_in_place_of_the_default_ones(state_dir: Path) -> None:
    ModelVersion.objects.create(
        model=Model.objects.create(name="llama", kind="chat"),
        version="1",
        max_context_tokens=128,
        pulled_at=timezone.now(),
    )
    call_command("create_demo", "--model", "llama", "--running", "256", stdout=StringIO())
    assert [(each.name, each.max_running_requests) for each in Deployment.objects.all()] == [
        ("llama", 256)
    ]
    assert not Price.objects.exists()


def test_models_that_were_not_pulled_are_named(state_dir: Path) -> None:
    ModelVersion.objects.all().delete()
    with pytest.raises(CommandError, match="pull_model --default"):
        create_demo(state_dir)
    assert not (state_dir / "demo.env").exists()


def test_production_refuses_the_demo(state_dir: Path, settings) -> None:  # type: ignore[no-untyped-def]
    settings.IS_PRODUCTION = True
    with pytest.raises(CommandError, match="production"):
        create_demo(state_dir)
    assert User.objects.count() == 0
