"""Responses that are made without a client (docs/adr/0034-background-responses.md)."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

from tenants import isolation


class Migration(migrations.Migration):

    dependencies = [
        ('inference', '0006_answers'),
        ('tenants', '0012_answers_kept_days'),
    ]

    operations = [
        migrations.CreateModel(
            name='BackgroundResponse',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(editable=False, max_length=64, unique=True)),
                ('request', models.BinaryField(help_text='Encrypted: the body, and what its headers asked for.')),
                ('has_log', models.BooleanField(default=False, help_text='Whether its events can be read as a stream.')),
                ('state', models.CharField(choices=[('queued', 'Queued'), ('running', 'Running'), ('cancelling', 'Being stopped')], default='queued', max_length=10)),
                ('attempts', models.PositiveSmallIntegerField(db_default=0, default=0)),
                ('fencing_token', models.PositiveIntegerField(db_default=0, default=0)),
                ('lease_owner', models.CharField(blank=True, db_default='', max_length=80)),
                ('lease_expires_at', models.DateTimeField(null=True)),
                ('run_after', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('expires_at', models.DateTimeField()),
                ('answer', models.OneToOneField(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='background', to='inference.storedanswer')),
                ('api_key', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.apikey')),
                ('organization', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.organization')),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.project')),
            ],
            options={
                'ordering': ['pk'],
                'indexes': [models.Index(fields=['organization', 'id'], name='inference_background_of')],
            },
        ),
        isolation.protect("inference_backgroundresponse"),
    ]
