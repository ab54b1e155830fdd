"""What a plan allows of files and batches."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0010_caching_and_priority'),
    ]

    operations = [
        migrations.AddField(
            model_name='plan',
            name='batch_tokens',
            field=models.PositiveBigIntegerField(blank=True, help_text="Prompt tokens of one model that an organization's batches may have in line.", null=True),
        ),
        migrations.AddField(
            model_name='plan',
            name='stored_bytes',
            field=models.PositiveBigIntegerField(blank=True, help_text='Bytes of files that an organization may store.', null=True),
        ),
    ]
