"""The audit trail is append-only, refused below the ORM (docs/adr/0010-append-only-tables.md).

``sluice_refuse_change`` is the one function behind every append-only table; billing's
migrations use it too.
"""

from django.db import migrations

FUNCTION = """
CREATE FUNCTION sluice_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Tests empty their own databases between tests; Django names those test_….
    IF TG_OP = 'TRUNCATE' AND current_database() LIKE 'test\\_%' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END
$$;
"""
TRIGGER = """
CREATE TRIGGER tenants_auditevent_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON tenants_auditevent
    FOR EACH STATEMENT EXECUTE FUNCTION sluice_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("tenants", "0001_initial")]

    operations = [
        migrations.RunSQL(FUNCTION, "DROP FUNCTION sluice_refuse_change()"),
        migrations.RunSQL(
            TRIGGER, "DROP TRIGGER tenants_auditevent_append_only ON tenants_auditevent"
        ),
    ]
