"""What is done to a chain is found: pure, and in the table with its triggers off."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tenants import actions, audit, audit_chain, audit_events, audit_rows
from tenants.audit_chain import ChainCheck, Fault, Head, Link, hash_of
from tenants.models import AuditEvent, Organization
from tests.cast import Cast
from tests.tenants.chains import findings, last_number


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
