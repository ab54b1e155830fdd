"""Row-level security, written once: what a migration says of each tenant-owned table.

``protect("tenants_project")`` turns row security on and gives the two policies: the
web role sees and writes the rows of the organization that its scope names, staff see
all. ``apply_grants`` runs after every migration and gives the roles their commands.
``tests/tenants/test_isolation.py`` reads PostgreSQL's catalogue and fails on a
tenant-owned table without policy.

The tables' owner is not held (no FORCE): it is the login of migrations and dumps, never
of a process that serves requests (docs/adr/0014-isolation-in-two-layers.md).
"""

from __future__ import annotations

from django.apps import AppConfig
from django.db import connection, migrations

from tenants.scope import Login

ORGANIZATION = "sluice_organization()"
USER = "sluice_user()"
# STABLE SQL functions are inlined, so the planner sees a constant that an index can use.
# An unset or emptied setting is NULL, and nothing equals NULL: no scope, no rows.
FUNCTIONS = """
CREATE FUNCTION sluice_organization() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT nullif(current_setting('sluice.organization', true), '')::bigint $$;
CREATE FUNCTION sluice_user() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT nullif(current_setting('sluice.user', true), '')::bigint $$;
CREATE FUNCTION sluice_key_lookup() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT nullif(current_setting('sluice.key_lookup', true), '') $$;
CREATE FUNCTION sluice_invitation() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT nullif(current_setting('sluice.invitation', true), '') $$;
CREATE FUNCTION sluice_provider() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT nullif(current_setting('sluice.provider', true), '') $$;
"""
DROP_FUNCTIONS = """
DROP FUNCTION sluice_organization();
DROP FUNCTION sluice_user();
DROP FUNCTION sluice_key_lookup();
DROP FUNCTION sluice_invitation();
DROP FUNCTION sluice_provider();
"""
NOTHING = ""
READ = "SELECT"
APPEND = "SELECT, INSERT"
WRITE = "SELECT, INSERT, UPDATE, DELETE"


def protect(
    table: str, *, column: str = "organization_id", also_visible: str = ""
) -> migrations.RunSQL:
    """Row security for ``table``, whose ``column`` holds its organization.

    ``also_visible`` is a condition under which the web role may read, never write, a
    row of another organization than the scope's: a user's own memberships.
    """
    own = f"{column} = {ORGANIZATION}"
    visible = f"{own} OR {also_visible}" if also_visible else own
    forward = f"""
        ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
        CREATE POLICY tenant_read ON {table} FOR SELECT TO {Login.WEB.value} USING ({visible});
        CREATE POLICY tenant_add ON {table} FOR INSERT TO {Login.WEB.value} WITH CHECK ({own});
        CREATE POLICY tenant_change ON {table} FOR UPDATE TO {Login.WEB.value}
            USING ({own}) WITH CHECK ({own});
        CREATE POLICY tenant_remove ON {table} FOR DELETE TO {Login.WEB.value} USING ({own});
        CREATE POLICY staff_all ON {table} TO {Login.STAFF.value} USING (true) WITH CHECK (true);
    """
    backward = f"""
        DROP POLICY tenant_read ON {table};
        DROP POLICY tenant_add ON {table};
        DROP POLICY tenant_change ON {table};
        DROP POLICY tenant_remove ON {table};
        DROP POLICY staff_all ON {table};
        ALTER TABLE {table} DISABLE ROW LEVEL SECURITY;
    """
    return migrations.RunSQL(forward, backward)


def apply_grants(app: AppConfig) -> None:
    """Give the two roles their commands on an app's tables, as its ``web_grants`` says.

    ``web_grants`` maps a model's name to READ, APPEND, WRITE or NOTHING for the web
    role; what it does not name is WRITE, as Django's own tables need. Staff may write
    everything that triggers let them, but for what ``staff_grants`` names.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [Login.WEB.value])
        if not cursor.rowcount:  # migrated to somewhere before the roles came
            return
        # Migrated back, the models of this release may have no tables.
        there = set(connection.introspection.table_names(cursor))
        for model in app.get_models(include_auto_created=True):
            if model._meta.db_table in there and model._meta.managed and not model._meta.proxy:
                table = connection.ops.quote_name(model._meta.db_table)
                for login, commands in _grants_on(app, str(model._meta.model_name)):
                    cursor.execute(f"REVOKE ALL ON {table} FROM {login.value}")
                    if commands:
                        cursor.execute(f"GRANT {commands} ON {table} TO {login.value}")


def _grants_on(app: AppConfig, model: str) -> list[tuple[Login, str]]:
    of_web: dict[str, str] = getattr(app, "web_grants", {})
    of_staff: dict[str, str] = getattr(app, "staff_grants", {})
    return [(Login.WEB, of_web.get(model, WRITE)), (Login.STAFF, of_staff.get(model, WRITE))]
