"""The checks of usage and ledger once a statement instead of once a row.

A request is four rows, whose ten foreign keys and three deferred checks took PostgreSQL
twice the time that writing them takes. Here the same is asked of all rows of a statement at
once, and more than before: keys and projects are of their row's organization, a posting of
usage is that usage's cost (docs/adr/0023-checks-by-batch.md).
"""

import django.db.models.deletion
from django.db import migrations, models

# The functions look as the tables' owner, as PostgreSQL's own foreign keys do: whom they
# refuse must not depend on which rows the caller may see. Their search path is fixed so
# that a temporary table cannot stand in for ours.
_HEAD = "RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$"

# The owners' rows are locked as foreign keys lock them: none is deleted before we commit.
# Then a fresh look, in which those deleted a moment ago are gone.
USAGE = f"""
CREATE FUNCTION billing_check_usage() {_HEAD}
DECLARE
    stray record;
BEGIN
    PERFORM FROM tenants_organization
        WHERE id IN (SELECT organization_id FROM added) ORDER BY id FOR KEY SHARE;
    PERFORM FROM tenants_project
        WHERE id IN (SELECT project_id FROM added) ORDER BY id FOR KEY SHARE;
    PERFORM FROM tenants_apikey
        WHERE id IN (SELECT api_key_id FROM added) ORDER BY id FOR KEY SHARE;
    PERFORM FROM billing_price
        WHERE id IN (SELECT price_id FROM added) ORDER BY id FOR KEY SHARE;
    SELECT owner.* INTO stray
        FROM (SELECT DISTINCT organization_id, project_id, api_key_id, price_id FROM added) AS owner
        WHERE NOT EXISTS (
            SELECT FROM tenants_organization WHERE id = owner.organization_id)
        OR NOT EXISTS (
            SELECT FROM tenants_project AS project WHERE project.id = owner.project_id
            AND project.organization_id = owner.organization_id)
        OR owner.api_key_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM tenants_apikey AS key WHERE key.id = owner.api_key_id
            AND key.organization_id = owner.organization_id)
        OR owner.price_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM billing_price WHERE id = owner.price_id)
        LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'usage of organization %, project %, key %, price % that are not there or not together',
            stray.organization_id, stray.project_id, stray.api_key_id, stray.price_id
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'billing_usage_owner';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER billing_usageevent_owner AFTER INSERT ON billing_usageevent
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION billing_check_usage();
"""
NO_USAGE = """
DROP TRIGGER billing_usageevent_owner ON billing_usageevent;
DROP FUNCTION billing_check_usage();
"""

# Entries that are added balance among themselves: a posting's come in one statement, and
# so each posting always balances. EXECUTE plans anew: a plan kept from when the ledger was
# small would read all of it for every batch.
ENTRIES = f"""
CREATE FUNCTION billing_check_entries() {_HEAD}
DECLARE
    wrong record;
BEGIN
    EXECUTE $q$
        SELECT new.transaction_id, new.entries, new.total, posting.organization_id
        FROM (
            SELECT transaction_id, count(*) AS entries, sum(amount_micros) AS total,
                min(organization_id) AS first, max(organization_id) AS last
            FROM added GROUP BY transaction_id
        ) AS new
        LEFT JOIN billing_ledgertransaction AS posting ON posting.id = new.transaction_id
        WHERE new.entries < 2 OR new.total <> 0
            OR posting.organization_id IS DISTINCT FROM new.first OR new.first <> new.last
        LIMIT 1
    $q$ INTO wrong;
    IF wrong.transaction_id IS NULL THEN
        RETURN NULL;
    END IF;
    IF wrong.entries < 2 THEN
        RAISE EXCEPTION 'ledger transaction % has % entries, needs two or more',
            wrong.transaction_id, wrong.entries
            USING ERRCODE = 'check_violation', CONSTRAINT = 'billing_posting_complete';
    END IF;
    IF wrong.total <> 0 THEN
        RAISE EXCEPTION 'ledger transaction % sums to %, not to zero', wrong.transaction_id, wrong.total
            USING ERRCODE = 'check_violation', CONSTRAINT = 'billing_posting_balanced';
    END IF;
    IF wrong.organization_id IS NULL THEN
        RAISE EXCEPTION 'there is no ledger transaction %', wrong.transaction_id
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'billing_entry_posting';
    END IF;
    RAISE EXCEPTION 'ledger transaction % has entries of another organization', wrong.transaction_id
        USING ERRCODE = 'check_violation', CONSTRAINT = 'billing_posting_organization';
END
$$;
CREATE TRIGGER billing_ledgerentry_balanced AFTER INSERT ON billing_ledgerentry
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION billing_check_entries();
"""
NO_ENTRIES = """
DROP TRIGGER billing_ledgerentry_balanced ON billing_ledgerentry;
DROP FUNCTION billing_check_entries();
"""

# Of usage: the posting is the usage's own, for its cost, and both sides are there.
USAGE_POSTINGS = f"""
CREATE FUNCTION billing_check_usage_postings() {_HEAD}
DECLARE
    wrong record;
BEGIN
    EXECUTE $q$
        SELECT posting.id, posting.usage_event_id FROM added AS posting
        LEFT JOIN billing_usageevent AS usage ON usage.id = posting.usage_event_id
        LEFT JOIN billing_ledgerentry AS entry
            ON entry.transaction_id = posting.id AND entry.account = 'receivable'
        WHERE posting.kind = 'usage' AND (
            usage.organization_id IS DISTINCT FROM posting.organization_id
            OR usage.request_id IS DISTINCT FROM posting.reference
            OR usage.cost_micros IS DISTINCT FROM entry.amount_micros)
        LIMIT 1
    $q$ INTO wrong;
    IF wrong.id IS NOT NULL THEN
        RAISE EXCEPTION 'ledger transaction % does not post the cost of usage event %',
            wrong.id, wrong.usage_event_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'billing_posting_of_usage';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER billing_ledgertransaction_usage AFTER INSERT ON billing_ledgertransaction
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT
    EXECUTE FUNCTION billing_check_usage_postings();
"""
NO_USAGE_POSTINGS = """
DROP TRIGGER billing_ledgertransaction_usage ON billing_ledgertransaction;
DROP FUNCTION billing_check_usage_postings();
"""

# Of everything else, which is rare: at commit, so that the ORM can write it row by row.
OTHER_POSTINGS = f"""
CREATE FUNCTION billing_check_other_posting() {_HEAD}
BEGIN
    PERFORM FROM tenants_organization WHERE id = NEW.organization_id FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'ledger transaction % of an organization that is not there', NEW.id
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'billing_posting_owner';
    END IF;
    PERFORM FROM billing_ledgerentry WHERE transaction_id = NEW.id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'ledger transaction % has 0 entries, needs two or more', NEW.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'billing_posting_complete';
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER billing_ledgertransaction_balanced
    AFTER INSERT ON billing_ledgertransaction DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.kind <> 'usage') EXECUTE FUNCTION billing_check_other_posting();
"""
NO_OTHER_POSTINGS = """
DROP TRIGGER billing_ledgertransaction_balanced ON billing_ledgertransaction;
DROP FUNCTION billing_check_other_posting();
"""

# The other side of the foreign keys. After the deletion, when its lock is held and those who
# held the row have committed; READ COMMITTED, because an older look would not see them.
REFERENCES = f"""
CREATE FUNCTION billing_refuse_used() {_HEAD}
DECLARE
    is_used boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION '% is deleted from in READ COMMITTED only', TG_TABLE_NAME;
    END IF;
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM billing_usageevent WHERE %s)', TG_ARGV[0]
    ) INTO is_used USING OLD;
    IF NOT is_used AND TG_TABLE_NAME = 'tenants_organization' THEN
        is_used := EXISTS (
            SELECT FROM billing_ledgertransaction WHERE organization_id = OLD.id);
    END IF;
    IF is_used THEN
        RAISE EXCEPTION '% % has usage or postings, which refer to it by a foreign key',
            TG_TABLE_NAME, OLD.id
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'billing_usage_owner';
    END IF;
    RETURN NULL;
END
$$;
"""


def referenced(table: str, condition: str) -> migrations.RunSQL:
    """``condition`` finds the usage of ``$1``, the row before; it is written for an index."""
    return migrations.RunSQL(
        f"CREATE TRIGGER {table}_used AFTER DELETE OR UPDATE OF id ON {table}"
        f" FOR EACH ROW EXECUTE FUNCTION billing_refuse_used('{condition}')",
        f"DROP TRIGGER {table}_used ON {table}",
    )


# As migration 0002 made it.
OLD_BALANCE = """
DROP TRIGGER billing_ledgertransaction_balanced ON billing_ledgertransaction;
DROP TRIGGER billing_ledgerentry_balanced ON billing_ledgerentry;
"""
NO_OLD_BALANCE = "".join(
    f"""
    CREATE CONSTRAINT TRIGGER {table}_balanced AFTER INSERT ON {table}
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION billing_check_posting();
    """
    for table in ("billing_ledgertransaction", "billing_ledgerentry")
)


def unchecked(model: str, field: str, to: str, **options: object) -> migrations.AlterField:
    """The foreign key without PostgreSQL's own check of each row."""
    kind = options.pop("kind", models.ForeignKey)
    return migrations.AlterField(
        model,
        field,
        kind(on_delete=django.db.models.deletion.PROTECT, to=to, db_constraint=False, **options),
    )


class Migration(migrations.Migration):
    dependencies = [("billing", "0006_tiers"), ("tenants", "0010_caching_and_priority")]

    operations = [
        migrations.RunSQL(USAGE, NO_USAGE),
        migrations.RunSQL(OLD_BALANCE, NO_OLD_BALANCE),
        migrations.RunSQL(ENTRIES, NO_ENTRIES),
        migrations.RunSQL(USAGE_POSTINGS, NO_USAGE_POSTINGS),
        migrations.RunSQL(OTHER_POSTINGS, NO_OTHER_POSTINGS),
        migrations.RunSQL(REFERENCES, "DROP FUNCTION billing_refuse_used()"),
        referenced("tenants_organization", "organization_id = ($1).id"),
        referenced("tenants_project", "project_id = ($1).id"),
        referenced("tenants_apikey", "api_key_id = ($1).id"),
        referenced("billing_price", "price_id = ($1).id"),
        unchecked(
            "usageevent", "organization", "tenants.organization",
            related_name="usage_events", db_index=False,
        ),
        unchecked("usageevent", "project", "tenants.project", related_name="+", db_index=False),
        unchecked(
            "usageevent", "api_key", "tenants.apikey", null=True, related_name="+", db_index=False
        ),
        unchecked(
            "usageevent", "price", "billing.price", null=True, related_name="+", db_index=False
        ),
        unchecked(
            "ledgertransaction", "organization", "tenants.organization",
            related_name="ledger_transactions",
        ),
        unchecked(
            "ledgertransaction", "usage_event", "billing.usageevent",
            kind=models.OneToOneField, null=True, related_name="ledger_transaction",
        ),
        unchecked(
            "ledgerentry", "transaction", "billing.ledgertransaction",
            related_name="entries", db_index=False,
        ),
        unchecked(
            "ledgerentry", "organization", "tenants.organization",
            related_name="+", db_index=False,
        ),
    ]  # fmt: skip
