"""Row-level security below the ORM (docs/adr/0014-isolation-in-two-layers.md)."""

from django.db import migrations

from tenants import isolation


class Migration(migrations.Migration):
    dependencies = [("billing", "0002_append_only"), ("tenants", "0004_isolation")]

    operations = [
        isolation.protect("billing_usageevent"),
        isolation.protect("billing_ledgertransaction"),
        isolation.protect("billing_ledgerentry"),
    ]
