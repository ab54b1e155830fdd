"""Credit that staff grant: a kind of posting and its account. Choices only, no SQL."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0003_isolation'),
    ]

    operations = [
        migrations.AlterField(
            model_name='ledgerentry',
            name='account',
            field=models.CharField(choices=[('receivable', 'Receivable from the organization'), ('revenue', 'Revenue'), ('granted', 'Credit given to customers')], max_length=12),
        ),
        migrations.AlterField(
            model_name='ledgertransaction',
            name='kind',
            field=models.CharField(choices=[('usage', 'Usage'), ('credit', 'Credit granted')], max_length=12),
        ),
    ]
