"""Row-level security below the ORM (docs/adr/0014-isolation-in-two-layers.md)."""

from django.db import migrations

from tenants import isolation

# Roles belong to the whole server, so they may be there before this database is.
ROLES = """
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['sluice_web', 'sluice_staff'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            EXCEPTION WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'The roles sluice_web and sluice_staff are missing, and % may not create them', current_user
                    USING HINT = 'Run deploy/postgres/roles.sql as a superuser, then migrate again.';
            END;
        END IF;
        IF NOT pg_has_role(current_user, role, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO %I', role, current_user);
        END IF;
    END LOOP;
END
$$;
"""

OWN_MEMBERSHIP = f"user_id = {isolation.USER}"
OWN_ORGANIZATION = f"""id IN (
    SELECT membership.organization_id FROM tenants_membership AS membership
    WHERE membership.user_id = {isolation.USER})"""
PRESENTED_KEY = "lookup = sluice_key_lookup() OR previous_lookup = sluice_key_lookup()"
PRESENTED_INVITATION = "token_digest = sluice_invitation()"
PRESENTED_PROVIDER = (
    "slug = sluice_provider() OR verified_domains @> jsonb_build_array(sluice_provider())"
)

AUDIT_POLICIES = f"""
ALTER TABLE tenants_auditevent ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant_read ON tenants_auditevent FOR SELECT TO sluice_web
    USING (organization_id = {isolation.ORGANIZATION});
-- What happens before anybody is known, such as a failed log-in, has no organization.
CREATE POLICY tenant_add ON tenants_auditevent FOR INSERT TO sluice_web
    WITH CHECK (organization_id = {isolation.ORGANIZATION} OR organization_id IS NULL);
CREATE POLICY staff_all ON tenants_auditevent TO sluice_staff USING (true) WITH CHECK (true);
"""
DROP_AUDIT_POLICIES = """
DROP POLICY tenant_read ON tenants_auditevent;
DROP POLICY tenant_add ON tenants_auditevent;
DROP POLICY staff_all ON tenants_auditevent;
ALTER TABLE tenants_auditevent DISABLE ROW LEVEL SECURITY;
"""

# The owner's rights, because whoever acts must neither read nor write the chain's head.
# Its row lock lets one transaction at a time extend an organization's chain.
CHAIN = """
CREATE FUNCTION sluice_chain_audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    chain bigint := coalesce(NEW.organization_id, 0);
    last tenants_auditchain%ROWTYPE;
BEGIN
    INSERT INTO tenants_auditchain (organization_key, number, hash) VALUES (chain, 0, '')
        ON CONFLICT (organization_key) DO NOTHING;
    SELECT * INTO last FROM tenants_auditchain WHERE organization_key = chain FOR UPDATE;
    NEW.number := last.number + 1;
    NEW.previous_hash := last.hash;
    NEW.hash := encode(
        sha256(convert_to(last.hash || '|' || NEW.number || '|' || NEW.content, 'UTF8')), 'hex');
    UPDATE tenants_auditchain SET number = NEW.number, hash = NEW.hash
        WHERE organization_key = chain;
    RETURN NEW;
END
$$;
CREATE TRIGGER tenants_auditevent_chain BEFORE INSERT ON tenants_auditevent
    FOR EACH ROW EXECUTE FUNCTION sluice_chain_audit();
"""
DROP_CHAIN = """
DROP TRIGGER tenants_auditevent_chain ON tenants_auditevent;
DROP FUNCTION sluice_chain_audit();
"""


class Migration(migrations.Migration):
    dependencies = [("tenants", "0003_tenancy")]

    operations = [
        # Roles stay when this is undone: other databases of the server may use them.
        migrations.RunSQL(ROLES, migrations.RunSQL.noop),
        migrations.RunSQL(isolation.FUNCTIONS, isolation.DROP_FUNCTIONS),
        isolation.protect("tenants_membership", also_visible=OWN_MEMBERSHIP),
        isolation.protect("tenants_organization", column="id", also_visible=OWN_ORGANIZATION),
        isolation.protect("tenants_apikey", also_visible=PRESENTED_KEY),
        isolation.protect("tenants_invitation", also_visible=PRESENTED_INVITATION),
        isolation.protect("tenants_identityprovider", also_visible=PRESENTED_PROVIDER),
        isolation.protect("tenants_project"),
        isolation.protect("tenants_projectmodellimit"),
        isolation.protect("tenants_projectmembership"),
        isolation.protect("tenants_serviceaccount"),
        isolation.protect("tenants_apikeyaddress"),
        isolation.protect("tenants_customrole"),
        isolation.protect("tenants_roleassignment"),
        isolation.protect("tenants_group"),
        isolation.protect("tenants_groupmember"),
        isolation.protect("tenants_idempotentrequest"),
        migrations.RunSQL(AUDIT_POLICIES, DROP_AUDIT_POLICIES),
        migrations.RunSQL(CHAIN, DROP_CHAIN),
        # An organization's id is drawn before its row is written, because the scope
        # that lets the web role write it names the id (tenants.actions).
        migrations.RunSQL(
            "GRANT USAGE ON SEQUENCE tenants_organization_id_seq TO sluice_web, sluice_staff",
            "REVOKE USAGE ON SEQUENCE tenants_organization_id_seq FROM sluice_web, sluice_staff",
        ),
    ]
