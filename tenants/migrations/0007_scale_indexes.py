"""What the planner must know of big tables (benchmarks/tenancy.py has a million keys).

An index over an expression has no statistics until its table is analyzed, and autovacuum
does that after rows change, not after an index is built: until then a search for names
(0006) read a million keys backwards, 1.0 s in place of 0.1 ms. An organization's keys and
its projects' go together; taken for independent, ten thousand keys were planned as one.
"""

from django.db import migrations

SEARCHED = (
    "tenants_organization", "tenants_apikey", "tenants_project", "tenants_user",
    "tenants_invitation", "tenants_auditevent",
)  # fmt: skip


class Migration(migrations.Migration):
    dependencies = [("tenants", "0006_search_indexes")]

    operations = [
        migrations.RunSQL(
            "CREATE STATISTICS tenants_apikey_place (dependencies)"
            " ON organization_id, project_id FROM tenants_apikey",
            "DROP STATISTICS tenants_apikey_place",
        ),
        migrations.RunSQL(f"ANALYZE {', '.join(SEARCHED)}", migrations.RunSQL.noop),
    ]
