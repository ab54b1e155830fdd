"""What the staff admin searches by (tenants.staff_lists), built beside running work.

A name is found by how it begins, in any case: Django asks for ``UPPER(name) LIKE 'X%'``,
which an index over ``upper(name)`` answers if it compares bytes (``text_pattern_ops``),
whatever the database's collation. Trigrams would find any part of a name, but need an
extension that not every managed PostgreSQL has.
"""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

NAMES = {
    "tenants_organization": "name",
    "tenants_apikey": "name",
    "tenants_project": "name",
    "tenants_user": "name",
    "tenants_invitation": "email",
}


def beginnings(table: str, column: str) -> migrations.RunSQL:
    name = f"{table}_{column}_begins"
    return migrations.RunSQL(
        # One that was left half-built by a migration that stopped is built anew.
        [
            f"DROP INDEX IF EXISTS {name}",
            f"CREATE INDEX CONCURRENTLY {name} ON {table} (upper({column}::text) text_pattern_ops)",
        ],
        f"DROP INDEX IF EXISTS {name}",
    )


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("tenants", "0005_management_indexes")]

    operations = [
        *(beginnings(table, column) for table, column in NAMES.items()),
        AddIndexConcurrently(
            "auditevent", models.Index(fields=["object_id", "id"], name="tenants_audit_by_object")
        ),
        # Almost no size, as rows come in the order of time.
        migrations.RunSQL(
            [
                "DROP INDEX IF EXISTS tenants_audit_by_time",
                "CREATE INDEX CONCURRENTLY tenants_audit_by_time"
                " ON tenants_auditevent USING brin (at)",
            ],
            "DROP INDEX IF EXISTS tenants_audit_by_time",
        ),
    ]
