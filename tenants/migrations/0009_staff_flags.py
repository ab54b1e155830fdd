"""The web role makes nobody staff, whatever SQL it is made to run."""

from django.db import migrations

# By the role in force: a page of the staff admin acts as sluice_staff, a command as the owner.
GUARD = """
CREATE FUNCTION sluice_guard_staff_flags() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_user <> 'sluice_web' THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'INSERT' THEN
        IF NEW.is_staff OR NEW.is_superuser THEN
            RAISE EXCEPTION 'the web role cannot make staff' USING ERRCODE = 'insufficient_privilege';
        END IF;
    ELSIF NEW.is_staff <> OLD.is_staff OR NEW.is_superuser <> OLD.is_superuser THEN
        RAISE EXCEPTION 'the web role cannot make staff' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER tenants_user_staff_flags BEFORE INSERT OR UPDATE ON tenants_user
    FOR EACH ROW EXECUTE FUNCTION sluice_guard_staff_flags();
"""
DROP = """
DROP TRIGGER tenants_user_staff_flags ON tenants_user;
DROP FUNCTION sluice_guard_staff_flags();
"""


class Migration(migrations.Migration):
    dependencies = [("tenants", "0008_jobs")]

    operations = [migrations.RunSQL(GUARD, DROP)]
