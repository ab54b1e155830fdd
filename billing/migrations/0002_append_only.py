"""Append-only tables, and a ledger that balances, held by PostgreSQL itself.

See docs/adr/0010-append-only-tables.md.
"""

from django.db import migrations

APPEND_ONLY = (
    "billing_usageevent",
    "billing_ledgertransaction",
    "billing_ledgerentry",
    "billing_rejectedreport",
)


def refuse(table: str, operations: str) -> migrations.RunSQL:
    return migrations.RunSQL(
        f"CREATE TRIGGER {table}_append_only BEFORE {operations} ON {table}"
        " FOR EACH STATEMENT EXECUTE FUNCTION sluice_refuse_change()",
        f"DROP TRIGGER {table}_append_only ON {table}",
    )


# Runs at commit for every new transaction and entry, when all its entries are there. The
# search path is fixed so that a temporary table cannot stand in for the ledger's.
BALANCE_FUNCTION = """
CREATE FUNCTION billing_check_posting() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    posting bigint;
    owner bigint;
    entries bigint;
    total numeric;
    foreign_entries bigint;
BEGIN
    IF TG_TABLE_NAME = 'billing_ledgerentry' THEN
        posting := NEW.transaction_id;
    ELSE
        posting := NEW.id;
    END IF;
    SELECT organization_id INTO owner FROM billing_ledgertransaction WHERE id = posting;
    SELECT count(*), coalesce(sum(amount_micros), 0),
           count(*) FILTER (WHERE organization_id IS DISTINCT FROM owner)
        INTO entries, total, foreign_entries
        FROM billing_ledgerentry WHERE transaction_id = posting;
    IF entries < 2 THEN
        RAISE EXCEPTION 'ledger transaction % has % entries, needs two or more', posting, entries
            USING ERRCODE = 'check_violation', CONSTRAINT = 'billing_posting_complete';
    END IF;
    IF total <> 0 THEN
        RAISE EXCEPTION 'ledger transaction % sums to %, not to zero', posting, total
            USING ERRCODE = 'check_violation', CONSTRAINT = 'billing_posting_balanced';
    END IF;
    IF foreign_entries > 0 THEN
        RAISE EXCEPTION 'ledger transaction % has entries of another organization', posting
            USING ERRCODE = 'check_violation', CONSTRAINT = 'billing_posting_organization';
    END IF;
    RETURN NULL;
END
$$;
"""


def balance(table: str) -> migrations.RunSQL:
    return migrations.RunSQL(
        f"CREATE CONSTRAINT TRIGGER {table}_balanced AFTER INSERT ON {table}"
        " DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION billing_check_posting()",
        f"DROP TRIGGER {table}_balanced ON {table}",
    )


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial"), ("tenants", "0002_append_only_audit")]

    operations = [
        *(refuse(table, "UPDATE OR DELETE OR TRUNCATE") for table in APPEND_ONLY),
        # A price that no usage refers to may be deleted; a mistyped one never took effect.
        refuse("billing_price", "UPDATE"),
        migrations.RunSQL(BALANCE_FUNCTION, "DROP FUNCTION billing_check_posting()"),
        balance("billing_ledgertransaction"),
        balance("billing_ledgerentry"),
    ]
