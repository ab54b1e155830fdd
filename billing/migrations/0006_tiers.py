"""The service tier of a request and what it pays of a price; prices so far go by one for all."""

import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0005_engine_time'),
    ]

    operations = [
        migrations.AddField(
            model_name='price',
            name='batch_percent',
            field=models.PositiveSmallIntegerField(db_default=100, default=50, help_text='Percent of these prices for requests of batch files.', validators=[django.core.validators.MaxValueValidator(1000)]),
        ),
        migrations.AddField(
            model_name='price',
            name='flex_percent',
            field=models.PositiveSmallIntegerField(db_default=100, default=50, help_text='Percent of these prices for requests of the service tier flex.', validators=[django.core.validators.MaxValueValidator(1000)]),
        ),
        migrations.AddField(
            model_name='price',
            name='priority_percent',
            field=models.PositiveSmallIntegerField(db_default=100, default=175, help_text='Percent of these prices for requests of the service tier priority.', validators=[django.core.validators.MaxValueValidator(1000)]),
        ),
        migrations.AddField(
            model_name='usageevent',
            name='tier',
            field=models.CharField(choices=[('standard', 'Standard'), ('priority', 'Priority'), ('flex', 'Flex'), ('batch', 'Batch file')], db_default='standard', default='standard', max_length=8),
        ),
        migrations.AddConstraint(
            model_name='price',
            constraint=models.CheckConstraint(condition=models.Q(('priority_percent__lte', 1000), ('flex_percent__lte', 1000), ('batch_percent__lte', 1000)), name='billing_price_tiers_within_bounds'),
        ),
    ]
