"""The second wall: PostgreSQL shows and lets change the rows of the scope's tenant only.

What is declared (``tenants.isolation``, each app's ``web_grants``) is read back from
PostgreSQL's catalogue, and every protected table is filled with rows of two
organizations and asked with raw SQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.apps import apps
from django.db import DatabaseError, connection, migrations, transaction
from django.db.utils import ProgrammingError

from tenants import isolation, scope
from tenants.models import Organization, Plan, User
from tenants.scope import Login, Scope
from tests.tenants.rows import ROOMS, Tenant, model_of, protected_tables

# Columns that name an organization in tables that belong to none.
OF_THE_PLATFORM = {
    # Everybody may know of a deployment; whom it is kept for is the registry's matter.
    ("inference_deployment", "dedicated_to_id"),
}
APPEND_ONLY = {
    "tenants_auditevent", "billing_usageevent", "billing_ledgertransaction", "billing_ledgerentry"
}  # fmt: skip
NO_SCOPES = [Scope(), Scope(user=10**9), Scope(organization=10**9), Scope(key_lookup="none")]


@pytest.fixture
def tenants(db: None) -> tuple[Tenant, Tenant]:
    """Two organizations with a row in every protected table."""
    plan = Plan.objects.create(slug="test", name="Test")
    made = []
    for name in ("Ours", "Theirs"):
        tenant = Tenant(Organization.objects.create(name=name, plan=plan))
        for table in protected_tables():
            tenant.row(model_of(table))
        made.append(tenant)
    return made[0], made[1]


def ask(sql: str, *params: object) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def refused(match: str) -> Iterator[None]:
    with pytest.raises(DatabaseError, match=match), transaction.atomic():
        yield


# --- What the catalogue says ----------------------------------------------------------------------


def tables_of_tenants() -> set[tuple[str, str]]:
    """Each table with a column of that name or a foreign key to an organization."""
    return {
        (str(table), str(column))
        for table, column in ask(
            """
            SELECT c.relname, a.attname FROM pg_attribute AS a
            JOIN pg_class AS c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
            WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0
            AND NOT a.attisdropped AND (
                a.attname = 'organization_id' OR EXISTS (
                    SELECT FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype = 'f'
                    AND k.confrelid = 'tenants_organization'::regclass AND a.attnum = ANY (k.conkey)
                )
            )
            """
        )
    } | {("tenants_organization", "id")}


def unprotected() -> set[str]:
    """Tables of tenants that lack row security or a policy for one of the roles."""
    complete = {
        str(table)
        for (table,) in ask(
            """
            SELECT c.relname FROM pg_class AS c
            WHERE c.relrowsecurity
            AND EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid
                AND 'sluice_web'::regrole::oid = ANY (p.polroles) AND p.polcmd IN ('r', '*'))
            AND EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid
                AND 'sluice_staff'::regrole::oid = ANY (p.polroles) AND p.polcmd = '*')
            """
        )
    }
    return {table for table, column in tables_of_tenants() - OF_THE_PLATFORM} - complete


def test_every_table_with_an_organization_has_policies(db: None) -> None:
    assert len(tables_of_tenants()) >= 19
    assert unprotected() == set()


@pytest.mark.parametrize(
    "column", ["organization_id bigint", "owner_id bigint REFERENCES tenants_organization"]
)
def test_a_table_without_policy_is_noticed(db: None, column: str) -> None:
    """A control: the test above would tell of a table that somebody forgot."""
    ask(f"CREATE TABLE billing_forgotten (id bigint, {column})")
    assert unprotected() == {"billing_forgotten"}
    ask("ALTER TABLE billing_forgotten ENABLE ROW LEVEL SECURITY")
    assert unprotected() == {"billing_forgotten"}, "row security without a policy shows nothing"
    operation = isolation.protect("billing_forgotten", column=column.split()[0])
    assert isinstance(operation, migrations.RunSQL)
    ask(str(operation.sql))
    assert unprotected() == set()
    ask(str(operation.reverse_sql))
    assert unprotected() == {"billing_forgotten"}


def test_no_policy_is_for_everybody(db: None) -> None:
    """A policy TO PUBLIC, or one more that is permissive, would widen the others."""
    policies = ask(
        "SELECT tablename, policyname, cmd, roles::text[] FROM pg_policies WHERE schemaname = 'public'"
    )
    assert {tuple(roles) for *_, roles in policies} == {("sluice_web",), ("sluice_staff",)}
    for table, name, command, roles in policies:
        allowed = {"staff_all": ("ALL", "sluice_staff")} | {
            f"tenant_{verb}": (sql, "sluice_web")
            for verb, sql in (
                ("read", "SELECT"), ("add", "INSERT"), ("change", "UPDATE"), ("remove", "DELETE")
            )
        }  # fmt: skip
        assert (command, roles[0]) == allowed[str(name)], (table, name)


def test_web_has_the_grants_that_are_declared(db: None) -> None:
    for app in apps.get_app_configs():
        declared = getattr(app, "web_grants", {})
        for model in app.get_models(include_auto_created=True):
            if model._meta.proxy or not model._meta.managed:
                continue
            wanted = declared.get(model._meta.model_name, isolation.WRITE)
            found = {
                command
                for command in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
                if ask(
                    "SELECT has_table_privilege('sluice_web', %s, %s)",
                    model._meta.db_table, command,
                ) == [(True,)]
            }  # fmt: skip
            assert found == set(filter(None, wanted.split(", "))), model


def test_every_grant_names_a_model(db: None) -> None:
    for room in ROOMS:
        app = apps.get_app_config(room)
        names = {model._meta.model_name for model in app.get_models()}
        assert set(getattr(app, "web_grants", {})) <= names, room


def test_neither_role_owns_anything_or_is_held_loosely(db: None) -> None:
    roles = "'sluice_web'::regrole, 'sluice_staff'::regrole"
    assert ask(f"SELECT relname FROM pg_class WHERE relowner IN ({roles})") == []
    assert ask(f"SELECT proname FROM pg_proc WHERE proowner IN ({roles})") == []
    assert ask(
        "SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb FROM pg_roles"
        " WHERE rolname IN ('sluice_web', 'sluice_staff')"
    ) == [(False,), (False,)]
    assert ask("SELECT has_schema_privilege('sluice_web', 'public', 'CREATE')") == [(False,)]
    tables_without_model = ask(
        "SELECT table_name FROM information_schema.role_table_grants"
        " WHERE grantee IN ('sluice_web', 'PUBLIC') AND table_schema = 'public'"
        " AND table_name = 'django_migrations'"
    )
    assert tables_without_model == []


def test_no_view_shows_what_its_table_hides(db: None) -> None:
    """A view asks as its owner, whom row security does not hold."""
    assert ask(
        "SELECT relname FROM pg_class WHERE relkind IN ('v', 'm')"
        " AND relnamespace = 'public'::regnamespace"
    ) == []  # fmt: skip


def test_functions_with_the_owners_rights_fix_their_search_path(db: None) -> None:
    loose = ask(
        "SELECT proname FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace"
        " AND NOT coalesce(proconfig::text LIKE '%%search_path=%%', false)"
    )
    assert loose == []


# --- What raw SQL gets ------------------------------------------------------------------------------


def test_each_scope_sees_its_own_rows_of_every_table(tenants: tuple[Tenant, Tenant]) -> None:
    for ours, theirs in (tenants, tenants[::-1]):
        for table, column in protected_tables().items():
            count = f"SELECT {column}, count(*) FROM {table} GROUP BY 1"
            everything = dict(ask(count))
            assert {ours.organization.pk, theirs.organization.pk} <= everything.keys(), table
            with scope.entered(Scope(organization=ours.organization.pk)):
                assert dict(ask(count)) == {
                    ours.organization.pk: everything[ours.organization.pk]
                }, table
            with scope.for_staff():
                assert dict(ask(count)) == everything, table


@pytest.mark.parametrize("nobody", NO_SCOPES, ids=str)
def test_a_scope_that_names_nothing_sees_nothing(
    tenants: tuple[Tenant, Tenant], nobody: Scope
) -> None:
    for table in protected_tables():
        with scope.entered(nobody):
            assert ask(f"SELECT count(*) FROM {table}") == [(0,)], table


def test_foreign_rows_are_neither_changed_nor_removed(tenants: tuple[Tenant, Tenant]) -> None:
    ours, theirs = (tenant.organization.pk for tenant in tenants)
    for table, column in protected_tables().items():
        before = ask(f"SELECT * FROM {table} ORDER BY 1")
        for sql in (
            f"UPDATE {table} SET {column} = {column} WHERE {column} = {theirs}",
            f"DELETE FROM {table} WHERE {column} = {theirs}",
        ):
            with scope.entered(Scope(organization=ours)):
                if table in APPEND_ONLY:
                    with refused("permission denied|append-only"):
                        ask(sql)
                else:
                    with connection.cursor() as cursor:
                        cursor.execute(sql)
                        assert cursor.rowcount == 0, sql
        assert ask(f"SELECT * FROM {table} ORDER BY 1") == before, table


def test_rows_are_neither_made_for_nor_given_to_another(tenants: tuple[Tenant, Tenant]) -> None:
    ours, theirs = tenants
    for table, column in protected_tables().items():
        columns = ", ".join(
            field.column for field in model_of(table)._meta.concrete_fields if field.column != "id"
        )
        copied = columns.replace(column, str(theirs.organization.pk), 1)
        make = (
            f"INSERT INTO {table} (id, name, plan_id) VALUES (10^9, 'x', 1)"
            if column == "id"
            else f"INSERT INTO {table} ({columns}) SELECT {copied} FROM {table}"
        )
        give = f"UPDATE {table} SET {column} = {theirs.organization.pk}"
        for sql in (make, give):
            with (
                scope.entered(Scope(organization=ours.organization.pk)),
                refused("row-level security|permission denied|append-only"),
            ):
                ask(sql)


@pytest.mark.parametrize("table", sorted(APPEND_ONLY))
def test_the_trail_and_the_ledger_stay_even_ones_own(
    tenants: tuple[Tenant, Tenant], table: str
) -> None:
    for acting in (Scope(organization=tenants[0].organization.pk), Scope(login=Login.STAFF)):
        for sql in (f"UPDATE {table} SET id = id", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with scope.entered(acting), refused("permission denied|append-only"):
                ask(sql)


def test_the_web_neither_reads_nor_writes_the_head_of_a_chain(
    tenants: tuple[Tenant, Tenant],
) -> None:
    ours = Scope(organization=tenants[0].organization.pk)
    for sql in ("SELECT * FROM tenants_auditchain", "UPDATE tenants_auditchain SET number = 0"):
        with scope.entered(ours), refused("permission denied"):
            ask(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE tenants_project DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE tenants_project OWNER TO sluice_web",
        "DROP POLICY tenant_read ON tenants_project",
        "CREATE POLICY mine ON tenants_project USING (true)",
        "ALTER ROLE sluice_web BYPASSRLS",
        "GRANT sluice_staff TO sluice_web",
        "COPY tenants_project TO PROGRAM 'cat'",
        "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP TRIGGER tenants_auditevent_append_only ON tenants_auditevent",
        "SET session_replication_role = replica",
        "SELECT pg_read_file('/etc/passwd')",
    ],
)
def test_the_web_cannot_take_the_wall_down(tenants: tuple[Tenant, Tenant], sql: str) -> None:
    ours = Scope(organization=tenants[0].organization.pk)
    with scope.entered(ours), refused("permission denied|must be owner"):
        ask(sql)


def test_row_security_turned_off_is_an_error_and_shows_nothing(
    tenants: tuple[Tenant, Tenant],
) -> None:
    ours = Scope(organization=tenants[0].organization.pk)
    with scope.entered(ours), refused("row-level security"):
        ask("SET LOCAL row_security = off")
        ask("SELECT count(*) FROM tenants_project")


@pytest.mark.parametrize("text", ["1 OR true", "999999999999999999999", "'; SELECT 1"])
def test_a_setting_that_is_no_number_shows_nothing(db: None, text: str) -> None:
    with scope.entered(Scope(organization=1)), refused("invalid input syntax|out of range"):
        ask("SELECT set_config('sluice.organization', %s, true)", text)
        ask("SELECT count(*) FROM tenants_project")


# --- What may be seen beside one organization's rows ----------------------------------------------------


def test_a_user_sees_the_memberships_that_are_theirs(tenants: tuple[Tenant, Tenant]) -> None:
    ours, _ = tenants
    user = ours.row(User)
    with scope.for_user(user.pk):
        assert ask("SELECT user_id FROM tenants_membership") == [(user.pk,)]
        assert ask("SELECT id FROM tenants_organization") == [(ours.organization.pk,)]
        assert ask("SELECT id FROM tenants_project") == []
        with connection.cursor() as cursor:
            cursor.execute("UPDATE tenants_organization SET name = 'x'")
            assert cursor.rowcount == 0, "seen, not written"
            cursor.execute("UPDATE tenants_membership SET role = 'owner'")
            assert cursor.rowcount == 0


@pytest.mark.parametrize(
    ("table", "column", "named"),
    [
        ("tenants_apikey", "lookup", "key_lookup"),
        ("tenants_invitation", "token_digest", "invitation"),
        ("tenants_identityprovider", "slug", "provider"),
    ],
)
def test_whoever_presents_one_row_sees_that_one(
    tenants: tuple[Tenant, Tenant], table: str, column: str, named: str
) -> None:
    row = tenants[1].row(model_of(table))
    presented = Scope(**{named: getattr(row, column)})
    with scope.entered(presented):
        assert ask(f"SELECT id FROM {table}") == [(row.pk,)]
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE {table} SET {column} = 'mine'")
            assert cursor.rowcount == 0
        others = set(protected_tables()) - {table}
        assert {name for name in others if ask(f"SELECT count(*) FROM {name}") != [(0,)]} == set()


def test_an_event_before_anybody_is_known_is_kept_but_not_shown(db: None) -> None:
    sql = (
        "INSERT INTO tenants_auditevent (public_id, at, organization_id, actor_type, project_id,"
        " action, object_type, object_id, before, after, content, previous_hash, hash)"
        " VALUES ('audit_1', now(), NULL, 'system', '', 'test', 'test', '1', '{}', '{}', '', '', '')"
    )
    with scope.entered(Scope()):
        ask(sql)
        assert ask("SELECT count(*) FROM tenants_auditevent") == [(0,)]
    assert ask("SELECT number FROM tenants_auditevent WHERE public_id = 'audit_1'") != []


def test_what_the_web_reads_of_the_platform_it_does_not_write(db: None) -> None:
    for table in ("tenants_plan", "billing_price", "inference_model", "inference_deployment"):
        with scope.entered(Scope(organization=1)):
            ask(f"SELECT * FROM {table}")
            with refused("permission denied"):
                ask(f"DELETE FROM {table}")


def test_the_web_makes_nobody_staff(db: None) -> None:
    person = User.objects.create(email="person@example.com")
    with scope.for_user(person.pk):
        person.name = "Person"
        person.save()  # their own fields, as ever
        with refused("cannot make staff"):
            User.objects.create(email="forged@example.com", is_staff=True)
        for flag in ("is_staff", "is_superuser"):
            with refused("cannot make staff"):
                ask(f"UPDATE tenants_user SET {flag} = true WHERE id = %s", person.pk)
    with scope.for_staff():
        ask("UPDATE tenants_user SET is_staff = true WHERE id = %s", person.pk)
    person.refresh_from_db()
    assert (person.is_staff, person.is_superuser, person.name) == (True, False, "Person")


def test_django_says_the_same_of_a_refusal(tenants: tuple[Tenant, Tenant]) -> None:
    with pytest.raises(ProgrammingError), scope.entered(Scope()), transaction.atomic():
        Plan.objects.update(name="mine")
