"""Durable jobs: rows with lease, fencing token and a unique effect (docs/adr/0018-durable-jobs.md)."""

import django.db.models.deletion
import django.db.models.functions.comparison
import django.db.models.functions.datetime
import tenants.identifiers
from django.conf import settings
from django.db import migrations, models

from tenants import isolation


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0007_scale_indexes'),
    ]

    operations = [
        migrations.CreateModel(
            name='Job',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=tenants.identifiers.new_job_id, editable=False, max_length=24, unique=True)),
                ('kind', models.CharField(max_length=40)),
                ('effect_key', models.CharField(max_length=120)),
                ('payload', models.JSONField(default=dict, help_text='Identifiers of what it is about.')),
                ('sealed', models.BinaryField(help_text='A secret that it needs, encrypted; erased at its end.', null=True)),
                ('state', models.CharField(choices=[('queued', 'Waiting'), ('running', 'Running'), ('succeeded', 'Done'), ('failed', 'Failed'), ('cancelled', 'Cancelled')], default='queued', max_length=10)),
                ('priority', models.PositiveSmallIntegerField(choices=[(0, 'Urgent'), (5, 'Normal'), (9, 'Low')], default=5)),
                ('run_after', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('max_attempts', models.PositiveSmallIntegerField(default=5)),
                ('lease_owner', models.CharField(blank=True, max_length=80)),
                ('lease_expires_at', models.DateTimeField(null=True)),
                ('fencing_token', models.PositiveBigIntegerField(default=0)),
                ('progress_done', models.PositiveBigIntegerField(default=0)),
                ('progress_total', models.PositiveBigIntegerField(null=True)),
                ('result', models.JSONField(default=dict)),
                ('error', models.TextField(blank=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('started_at', models.DateTimeField(null=True)),
                ('finished_at', models.DateTimeField(null=True)),
                ('created_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('organization', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='jobs', to='tenants.organization')),
                ('project', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='tenants.project')),
            ],
            options={
                'ordering': ['-pk'],
                'indexes': [models.Index(django.db.models.functions.comparison.Coalesce('organization', 0), models.F('priority'), models.F('run_after'), models.F('id'), condition=models.Q(('state', 'queued')), name='tenants_job_waiting'), models.Index(condition=models.Q(('state', 'running')), fields=['lease_expires_at'], name='tenants_job_leases'), models.Index(django.db.models.functions.comparison.Coalesce('organization', 0), condition=models.Q(('state', 'running')), name='tenants_job_running'), models.Index(condition=models.Q(('finished_at__isnull', False)), fields=['finished_at'], name='tenants_job_finished'), models.Index(fields=['organization', 'kind', '-id'], name='tenants_job_by_org')],
                'constraints': [models.UniqueConstraint(fields=('kind', 'effect_key'), name='tenants_job_once'), models.CheckConstraint(condition=models.Q(models.Q(('lease_expires_at__isnull', False), ('state', 'running')), models.Q(models.Q(('state', 'running'), _negated=True), ('lease_expires_at', None)), _connector='OR'), name='tenants_job_leased_while_running'), models.CheckConstraint(condition=models.Q(models.Q(('finished_at', None), ('state__in', ['queued', 'running'])), models.Q(models.Q(('state__in', ['queued', 'running']), _negated=True), ('finished_at__isnull', False)), _connector='OR'), name='tenants_job_finished_at_its_end')],
            },
        ),
        isolation.protect("tenants_job"),
    ]
