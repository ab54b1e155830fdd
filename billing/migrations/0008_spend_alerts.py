"""Alerts on a month's costs, and of what people were told (docs/adr/0031-webhooks.md)."""

import django.db.models.deletion
from django.db import migrations, models

import tenants.identifiers
from tenants import isolation


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0007_checks_by_batch'),
        ('tenants', '0014_person_preferences'),
    ]

    operations = [
        migrations.CreateModel(
            name='SpendAlert',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=tenants.identifiers.new_spend_alert_id, editable=False, max_length=24, unique=True)),
                ('threshold_micros', models.PositiveBigIntegerField()),
                ('recipients', models.JSONField(default=list)),
                ('subject_prefix', models.CharField(blank=True, max_length=80)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('organization', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='spend_alerts', to='tenants.organization')),
                ('project', models.ForeignKey(help_text='None: all of them.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.project')),
            ],
            options={
                'ordering': ['pk'],
            },
        ),
        migrations.CreateModel(
            name='SpendNotice',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('month', models.DateField(help_text='Its first day.')),
                ('limit_micros', models.PositiveBigIntegerField(help_text='Threshold or budget.')),
                ('spent_micros', models.PositiveBigIntegerField()),
                ('at', models.DateTimeField(auto_now_add=True)),
                ('alert', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='notices', to='billing.spendalert')),
                ('organization', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.organization')),
                ('project', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.project')),
            ],
            options={
                'ordering': ['-pk'],
                'constraints': [models.UniqueConstraint(fields=('organization', 'project', 'alert', 'month', 'limit_micros'), name='billing_told_once', nulls_distinct=False)],
            },
        ),
        isolation.protect("billing_spendalert"),
        isolation.protect("billing_spendnotice"),
    ]
