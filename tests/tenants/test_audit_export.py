"""Audit events filtered and exported; ``verify_audit`` on the table and on a file."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from tenants import actions, audit, audit_events, audit_rows, scope
from tenants.models import AuditEvent, Organization
from tests.cast import Cast


def verify(*arguments: str) -> tuple[str, str, str]:
    """What is printed, what is complained of, and the error, if it failed."""
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("verify_audit", *arguments, stdout=out, stderr=err, no_color=True)
    except CommandError as error:
        return out.getvalue(), err.getvalue(), str(error)
    return out.getvalue(), err.getvalue(), ""


@pytest.fixture
def exported(history: Organization, tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    with scope.entered(scope.Scope(organization=history.pk)):
        path.write_text("".join(audit_events.json_lines(audit_rows.export_rows(history))))
    return path


def test_every_chain_is_verified_and_its_head_told(cast: Cast, history: Organization) -> None:
    out, err, error = verify()

    assert (err, error) == ("", "")
    for organization in (history, cast.other_organization, cast.suspended_organization):
        head = audit_rows.get_head(organization.pk)
        assert f"{organization.public_id} {head}\n" in out


def test_the_command_names_the_row(history: Organization, unguarded: Callable[..., None]) -> None:
    unguarded(
        "UPDATE tenants_auditevent SET action = 'x' WHERE organization_id = %s AND number = 3",
        history.pk,
    )
    for arguments in ((), ("--organization", history.public_id)):
        _, err, error = verify(*arguments)
        assert f"{history.public_id} row 3 (action): " in err
        assert "1 findings" in error


def test_heads_kept_elsewhere_find_a_rewritten_table(
    history: Organization, unguarded: Callable[..., None], tmp_path: Path
) -> None:
    noted = tmp_path / "heads"
    noted.write_text(verify()[0] + f"org_gone 7:{'0' * 64}\n")
    _, err, error = verify("--heads", str(noted))
    assert err == "org_gone: the chain is gone; its head was 7\n" and error

    head = audit_rows.get_head(history.pk)
    wrong = f"{head.number}:{'0' * 64}" if head else ""
    assert verify("--organization", history.public_id, "--head", str(head))[2] == ""
    _, err, error = verify("--organization", history.public_id, "--head", wrong)
    assert "kept elsewhere" in err and error


def test_an_exported_file_is_verified_offline(
    exported: Path, django_assert_num_queries: Callable[[int], object], tmp_path: Path
) -> None:
    lines = exported.read_text().splitlines(keepends=True)
    head = json.loads(lines[-1])
    kept = f"{head['number']}:{head['hash']}"
    cut = tmp_path / "cut.jsonl"
    with django_assert_num_queries(0):
        out, _, error = verify("--file", str(exported), "--head", kept)
        assert error == "" and kept in out
        for number, kept_lines in ((5, lines[:3] + lines[4:]), (len(lines), lines[:-1])):
            cut.write_text("".join(kept_lines))
            _, err, error = verify("--file", str(cut), "--head", kept)
            assert f"cut.jsonl row {number} (row" in err and error
        cut.write_text(lines[0] + lines[1].replace("created", "deleted") + "".join(lines[2:]))
        assert "row 2: its hash" in verify("--file", str(cut))[1]
        cut.write_text("\n" + lines[0] + '{"number": 2}\n')
        assert "Line 3 is not" in verify("--file", str(cut))[2]


@pytest.mark.parametrize(
    "arguments",
    [("--head", "1:x"), ("--organization", "org_nothing"), ("--file", "/nowhere/audit.jsonl"),
     ("--organization", "platform", "--head", "x"), ("--heads", "/nowhere/heads")],
)  # fmt: skip
def test_a_wrong_argument_fails_and_says_why(db: None, arguments: tuple[str, ...]) -> None:
    assert verify(*arguments)[2]


def test_a_csv_export_has_every_event_and_no_formula(cast: Cast) -> None:
    actions.create_project(cast.organization, "=HYPERLINK(1)", acting_user=cast.owner)
    actions.set_organization_suspended(cast.organization, True, acting_user=None, reason="-1")
    with scope.for_staff():
        actions.update_organization(cast.organization, {"name": "+A"}, acting_user=cast.staff)
    lines = list(audit_events.csv_lines(audit_events.get_audit_events(cast.organization)))

    assert len(lines) == 1 + AuditEvent.objects.filter(organization=cast.organization).count()
    assert cast.owner.email in "".join(lines)
    assert cast.staff.email not in "".join(lines) and ",Staff," in lines[1]


def test_events_are_filtered(cast: Cast) -> None:
    actions.create_project(cast.organization, "P", acting_user=cast.member)
    with audit.acting_program(cast.owner_api_key, "203.0.113.7"):
        actions.create_project(cast.organization, "Q", acting_user=None)

    def found(**filters: object) -> list[str]:
        asked = audit_events.AuditFilters(**filters)
        events = audit_events.get_audit_events(cast.organization, asked)
        return [event.after.get("name", "") for event in events]

    assert found(actions=("project.created",)) == ["Q", "P"]
    assert found(actor_ids=(cast.owner_api_key.public_id,)) == ["Q"]
    assert found(actor_ids=(cast.member.public_id,)) == ["P"]
    assert found(actor_emails=(cast.member.email.upper(),)) == ["P"]
    p = AuditEvent.objects.get(after__name="P")
    assert found(object_ids=(p.object_id,)) == ["P"] == found(projects=(p.project_id,))
    assert found(since=p.at) == ["Q", "P"] and "P" not in found(until=p.at)
    assert found(actor_types=("api_key",)) == ["Q"]
