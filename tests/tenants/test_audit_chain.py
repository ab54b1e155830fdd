"""The audit chain: an edited, missing, forged or cut-off row is found, here and in a file."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import Error as DatabaseError
from django.db import connection, transaction

from tenants import actions, audit, audit_chain, audit_events, audit_rows, scope
from tenants.audit_chain import ChainCheck, Fault, Head, Link, hash_of
from tenants.models import AuditEvent, Organization
from tests.cast import Cast, build_cast


def chain_of(*contents: str) -> list[Link]:
    links, before = [], ""
    for number, content in enumerate(contents, 1):
        digest = hash_of(before, number, content)
        links.append(Link(number, before, digest, content))
        before = digest
    return links


def faults_of(
    links: list[Link], stored: Head | None = None, kept: tuple[Head, ...] = ()
) -> list[Fault]:
    check = ChainCheck(stored, kept)
    found = [finding for link in links for finding in check.take(link)]
    return [finding.fault for finding in [*found, *check.finish()]]


def edited(link: Link, **changes: object) -> Link:
    fields = {name: getattr(link, name) for name in Link.__slots__}
    return Link(**{**fields, **changes})


# --- Pure -------------------------------------------------------------------------------------


def test_a_whole_chain_has_no_findings() -> None:
    links = chain_of("a", "b", "ü|\n", "")
    head = Head(4, links[-1].hash)

    assert faults_of(links, head, (Head(2, links[1].hash),)) == []
    assert faults_of([]) == []


@pytest.mark.parametrize(
    "tampered, expected",
    [
        (lambda c: [c[0], edited(c[1], content="x"), c[2]], [Fault.EDITED]),
        (lambda c: [c[0], edited(c[1], hash="0" * 64), c[2]], [Fault.EDITED, Fault.BROKEN]),
        (lambda c: [c[0], c[2]], [Fault.MISSING]),
        (lambda c: [c[1], c[2]], [Fault.MISSING]),
        (lambda c: [c[0], c[1], c[1], c[2]], [Fault.REPEATED]),
        (lambda c: c[:2], [Fault.TRUNCATED]),
        (lambda c: [], [Fault.TRUNCATED]),
    ],
    ids=["edited", "hash", "missing", "first missing", "repeated", "truncated", "emptied"],
)
def test_what_is_done_to_a_chain_is_found(
    tampered: Callable[[list[Link]], list[Link]], expected: list[Fault]
) -> None:
    links = chain_of("a", "b", "c")

    assert faults_of(tampered(links), Head(3, links[-1].hash)) == expected


def test_a_replaced_row_with_a_right_hash_breaks_the_link() -> None:
    links = chain_of("a", "b", "c")
    forged = edited(links[1], content="x", hash=hash_of(links[0].hash, 2, "x"))

    assert faults_of([links[0], forged, links[2]]) == [Fault.BROKEN]


def test_only_a_head_kept_elsewhere_finds_a_chain_that_was_rewritten_as_a_whole() -> None:
    links, rewritten = chain_of("a", "b", "c"), chain_of("a", "x", "c")
    stored = Head(3, rewritten[-1].hash)

    assert faults_of(rewritten, stored) == []
    assert faults_of(rewritten, stored, (Head(2, links[1].hash),)) == [Fault.KEPT]
    cut = Head(2, links[1].hash)
    assert faults_of(links[:2], cut, (Head(3, links[2].hash),)) == [Fault.TRUNCATED]


@pytest.mark.parametrize(
    "text", ["", "3", "3:", "x:" + "0" * 64, "0:" + "0" * 64, "3:" + "z" * 64, "-1:" + "0" * 64]
)
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Head.parse(text)


def test_a_head_is_read_as_it_is_printed() -> None:
    head = Head(153, "ab" * 32)
    assert Head.parse(str(head)) == head


@pytest.mark.parametrize(
    "line", ["", "1", "[]", "{}", '{"number": 1}', "{", '{"number":"1","previous_hash":"",'
             '"hash":"","content":""}', '{"number":true,"previous_hash":"","hash":"","content":""}']
)  # fmt: skip
def test_a_line_that_was_never_exported_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        audit_chain.from_line(line)


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1"])
def test_no_cell_of_a_csv_file_is_a_formula(cell: str) -> None:
    assert audit_events.guarded(cell) == f"'{cell}"
    assert audit_events.guarded("plain - text") == "plain - text"
    assert audit_events.guarded(None) == ""


# --- The table ---------------------------------------------------------------------------------


def findings(organization: Organization, *kept: Head) -> list[tuple[int, Fault]]:
    walk = audit_rows.ChainVerification(audit_rows.read_chain(organization.pk), kept)
    found = [(finding.number, finding.fault) for finding in walk.findings()]
    late = [(0, finding.fault) for _, finding in audit_rows.unchained(organization.pk)]
    return found + late


def last_number(organization: Organization) -> int:
    return AuditEvent.objects.filter(organization=organization).latest("number").number


@pytest.fixture
def history(cast: Cast) -> Organization:
    """An organization with ten more events, beside another with its own."""
    for number in range(10):
        actions.create_project(cast.organization, f"P{number}", acting_user=cast.owner)
        actions.create_project(cast.other_organization, f"P{number}", acting_user=cast.stranger)
    return cast.organization


@pytest.fixture
def unguarded(history: Organization) -> Iterator[Callable[..., None]]:
    """Raw SQL as the tables' owner, who can turn every trigger off."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE tenants_auditevent DISABLE TRIGGER USER")

        def run(sql: str, *parameters: object) -> None:
            cursor.execute(sql, parameters)
            assert cursor.rowcount == 1

        yield run


def test_the_trigger_and_python_agree(history: Organization) -> None:
    actions.update_organization(
        history,
        {"name": "Ünïcode | “quotes” \\ 日本 🦀"},
        acting_user=None,
        address="2001:DB8::0:1",
    )
    audit.record_event(
        acting_user=None, action="x", object_type="x", object_id="x", organization=history,
        before={"number": 1.5, "big": 2**70, "list": [None, True, {"z": 1, "a": 2}]},
        address="fe80::1%eth0",
    )  # fmt: skip

    assert findings(history) == []
    assert AuditEvent.objects.latest("pk").address == "fe80::1"


@pytest.mark.parametrize(
    "change",
    [
        "action = 'nothing.happened'", "acting_user_id = NULL", "at = at - interval '1 second'",
        "after = '{}'", "address = '203.0.113.9'", "object_id = 'x'", "project_id = 'x'",
        "actor_type = 'system'", "public_id = 'audit_x'",
    ],
)  # fmt: skip
def test_a_changed_column_is_found(
    history: Organization, unguarded: Callable[..., None], change: str
) -> None:
    unguarded(
        f"UPDATE tenants_auditevent SET {change} WHERE organization_id = %s AND number = 5",
        history.pk,
    )
    assert findings(history) == [(5, Fault.COLUMNS)]


def test_changed_content_is_found_with_or_without_its_hash(
    history: Organization, unguarded: Callable[..., None]
) -> None:
    unguarded(
        "UPDATE tenants_auditevent SET content = replace(content, 'project.created', 'x')"
        " WHERE organization_id = %s AND number = 5",
        history.pk,
    )
    assert findings(history) == [(5, Fault.EDITED), (5, Fault.COLUMNS)]
    unguarded(
        "UPDATE tenants_auditevent SET action = 'x', hash = encode(sha256(convert_to("
        "previous_hash || '|' || number || '|' || content, 'UTF8')), 'hex')"
        " WHERE organization_id = %s AND number = 5",
        history.pk,
    )
    assert findings(history) == [(6, Fault.BROKEN)]


@pytest.mark.parametrize("number", [1, 5])
def test_a_deleted_row_is_found(
    history: Organization, unguarded: Callable[..., None], number: int
) -> None:
    unguarded(
        "DELETE FROM tenants_auditevent WHERE organization_id = %s AND number = %s",
        history.pk,
        number,
    )
    assert findings(history) == [(number + 1, Fault.MISSING)]


def test_a_deleted_tail_is_found(history: Organization, unguarded: Callable[..., None]) -> None:
    last = last_number(history)
    unguarded(
        "DELETE FROM tenants_auditevent WHERE organization_id = %s AND number = %s",
        history.pk,
        last,
    )
    assert findings(history) == [(last, Fault.TRUNCATED)]
    # Whoever sets the head back as well is found by a head kept elsewhere.
    kept = audit_rows.get_head(history.pk)
    row = AuditEvent.objects.get(organization=history, number=last - 1)
    unguarded(
        "UPDATE tenants_auditchain SET number = %s, hash = %s WHERE organization_key = %s",
        row.number, row.hash, history.pk,
    )  # fmt: skip
    assert findings(history) == []
    assert kept is not None
    assert findings(history, kept) == [(last, Fault.TRUNCATED)]


FORGED = """
INSERT INTO tenants_auditevent (public_id, at, organization_id, actor_type, project_id, action,
    object_type, object_id, before, after, number, content, previous_hash, hash)
SELECT 'audit_forged', at, organization_id, actor_type, project_id, action, object_type,
    object_id, before, after, %s, replace(content, public_id, 'audit_forged'), hash, %s
FROM tenants_auditevent WHERE organization_id = %s AND number = %s
"""


def test_a_forged_row_is_found(history: Organization, unguarded: Callable[..., None]) -> None:
    last = AuditEvent.objects.get(organization=history, number=last_number(history))
    content = last.content.replace(last.public_id, "audit_forged")
    digest = hash_of(last.hash, last.number + 1, content)
    unguarded(FORGED, last.number + 1, digest, history.pk, last.number)

    assert (last.number + 1, Fault.BEYOND) in findings(history)


def test_a_forged_row_outside_of_the_chain_is_found(
    history: Organization, unguarded: Callable[..., None]
) -> None:
    unguarded(FORGED, None, "", history.pk, 3)

    assert findings(history) == [(0, Fault.UNCHAINED)]


def test_a_row_moved_to_another_organization_is_found_in_both(
    cast: Cast, history: Organization, unguarded: Callable[..., None]
) -> None:
    last, theirs = last_number(history), last_number(cast.other_organization)
    unguarded(
        "UPDATE tenants_auditevent SET organization_id = %s, number = %s"
        " WHERE organization_id = %s AND number = %s",
        cast.other_organization.pk, theirs + 1, history.pk, last,
    )  # fmt: skip

    assert findings(history) == [(last, Fault.TRUNCATED)]
    assert (theirs + 1, Fault.BEYOND) in findings(cast.other_organization)


def test_a_chain_without_its_head_is_found(
    history: Organization, unguarded: Callable[..., None]
) -> None:
    unguarded("DELETE FROM tenants_auditchain WHERE organization_key = %s", history.pk)

    assert findings(history) == [(last_number(history), Fault.HEADLESS)]


def test_pages_do_not_show(history: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [row.link for row in audit_rows.export_rows(history)]
    every = {chain.key: len(list(chain.rows)) for chain in audit_rows.read_chains()}
    page = audit_rows._PAGE.replace(f"LIMIT {audit_rows.ROWS_A_PAGE}", "LIMIT 2")
    monkeypatch.setattr(audit_rows, "_PAGE", page)
    monkeypatch.setattr(audit_rows, "HEADS_A_PAGE", 1)
    monkeypatch.setattr(audit_events, "EVENTS_A_PAGE", 3)

    assert [row.link for row in audit_rows.export_rows(history)] == expected
    assert [row.link for row in audit_rows.export_rows(history, after=4)] == expected[4:]
    again = {chain.key: len(list(chain.rows)) for chain in audit_rows.read_chains()}
    assert again == every and set(every) >= {0, history.pk}
    events = audit_events.get_audit_events(history)
    assert list(audit_events.stream_events(events)) == list(events)


# --- Transactions at once ------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_transactions_at_once_make_one_chain_and_a_rollback_leaves_no_gap() -> None:
    cast = build_cast()
    before, start, errors = last_number(cast.organization), threading.Barrier(8), []

    def work(worker: int) -> None:
        try:
            start.wait()
            for number in range(6):
                record_or_roll_back(cast.organization, fails=(worker + number) % 3 == 0)
        except DatabaseError as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not errors
    kept = 8 * 6 * 2 // 3
    assert last_number(cast.organization) == before + kept
    assert findings(cast.organization) == []


def record_or_roll_back(organization: Organization, fails: bool) -> None:
    try:
        with scope.for_organization(organization.pk), transaction.atomic():
            audit.record_event(
                acting_user=None, action="x", object_type="x", object_id="x",
                organization=organization,
            )  # fmt: skip
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass


@pytest.mark.django_db(transaction=True)
def test_a_transaction_waits_for_the_one_that_extends_the_same_chain_and_for_no_other() -> None:
    cast = build_cast()
    done = threading.Event()

    def add() -> None:
        try:
            actions.create_project(cast.organization, "Second", acting_user=None)
        finally:
            done.set()
            connection.close()

    thread = threading.Thread(target=add)
    with transaction.atomic():
        actions.create_project(cast.organization, "First", acting_user=None)
        thread.start()
        wait_for_a_blocked_statement()
        assert not done.is_set()
        # Another organization's chain is free, and ours is not its to wait for.
        other = threading.Thread(target=add_elsewhere, args=(cast.other_organization,))
        other.start()
        other.join(timeout=10)
        assert not other.is_alive()
    thread.join(timeout=10)

    names = [event.after["name"] for event in AuditEvent.objects.order_by("number").filter(
        organization=cast.organization, action="project.created")]  # fmt: skip
    assert names == ["First", "Second"]
    assert findings(cast.organization) == []


def add_elsewhere(organization: Organization) -> None:
    try:
        actions.create_project(organization, "Elsewhere", acting_user=None)
    finally:
        connection.close()


def wait_for_a_blocked_statement() -> None:
    for _ in range(1000):
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
            cursor.execute("SELECT pg_sleep(0.01)")
    raise AssertionError("nobody waits")


def refuses(statement: str) -> None:
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


# --- Who may ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", [
    "UPDATE tenants_auditevent SET action = 'x'",
    "DELETE FROM tenants_auditevent",
    "TRUNCATE tenants_auditevent",
    "SELECT * FROM tenants_auditchain",
    "UPDATE tenants_auditchain SET number = 0",
])  # fmt: skip
def test_the_web_role_can_neither_change_nor_see_a_chain(
    history: Organization, statement: str
) -> None:
    with scope.entered(scope.Scope(organization=history.pk)):
        refuses(statement)
    assert findings(history) == []


@pytest.mark.parametrize("statement", [
    "UPDATE tenants_auditevent SET action = 'x'",
    "DELETE FROM tenants_auditevent",
    "UPDATE tenants_auditchain SET number = 0",
    "DELETE FROM tenants_auditchain",
    "INSERT INTO tenants_auditchain VALUES (-1, 0, '')",
])  # fmt: skip
def test_staff_can_read_chains_and_change_none(history: Organization, statement: str) -> None:
    with scope.for_staff():
        assert audit_rows.get_head(history.pk) is not None
        refuses(statement)
    assert findings(history) == []


def test_the_web_role_reads_its_own_events_and_no_foreign_one(cast: Cast) -> None:
    with scope.entered(scope.Scope(organization=cast.organization.pk)):
        with connection.cursor() as cursor:
            cursor.execute("SELECT DISTINCT organization_id FROM tenants_auditevent")
            assert cursor.fetchall() == [(cast.organization.pk,)]
        assert list(audit_rows.export_rows(cast.other_organization)) == []
        assert list(audit_rows.export_rows(cast.organization))
        assert list(audit_rows.export_platform_rows()) == []


def test_the_web_role_cannot_write_into_a_foreign_chain(cast: Cast) -> None:
    own = scope.Scope(organization=cast.organization.pk)
    with scope.entered(own), pytest.raises(DatabaseError), transaction.atomic():
        audit.record_event(
            acting_user=None, action="x", object_type="x", object_id="x",
            organization=cast.other_organization,
        )  # fmt: skip
    assert findings(cast.other_organization) == []


# --- Exports and the command -------------------------------------------------------------------


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
