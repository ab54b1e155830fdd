"""Files, batches and their lines (docs/adr/0028-batches.md)."""

import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.datetime
import inference.batches.models
import inference.files.models
from django.db import migrations, models

from tenants import isolation


class Migration(migrations.Migration):

    dependencies = [
        ('inference', '0004_parsers'),
        ('tenants', '0011_batches'),
    ]

    operations = [
        migrations.CreateModel(
            name='Batch',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=inference.batches.models.new_batch_id, editable=False, max_length=32, unique=True)),
                ('input_file', models.CharField(max_length=32)),
                ('output_file', models.CharField(blank=True, max_length=32)),
                ('error_file', models.CharField(blank=True, max_length=32)),
                ('endpoint', models.CharField(max_length=40)),
                ('model', models.CharField(blank=True, max_length=200)),
                ('metadata', models.JSONField(blank=True, null=True)),
                ('output_expires_after_s', models.PositiveIntegerField(blank=True, null=True)),
                ('status', models.CharField(choices=[('validating', 'Validating'), ('failed', 'Failed'), ('in_progress', 'In progress'), ('finalizing', 'Finalizing'), ('completed', 'Completed'), ('expired', 'Expired'), ('cancelling', 'Cancelling'), ('cancelled', 'Cancelled')], default='validating', max_length=12)),
                ('ends_as', models.CharField(blank=True, choices=[('validating', 'Validating'), ('failed', 'Failed'), ('in_progress', 'In progress'), ('finalizing', 'Finalizing'), ('completed', 'Completed'), ('expired', 'Expired'), ('cancelling', 'Cancelling'), ('cancelled', 'Cancelled')], max_length=12)),
                ('errors', models.JSONField(blank=True, default=list)),
                ('total', models.PositiveIntegerField(default=0)),
                ('completed', models.PositiveIntegerField(default=0)),
                ('failed', models.PositiveIntegerField(default=0)),
                ('tokens_enqueued', models.PositiveBigIntegerField(default=0, help_text='Prompt tokens as estimated when it was validated.')),
                ('input_tokens', models.PositiveBigIntegerField(default=0)),
                ('cached_tokens', models.PositiveBigIntegerField(default=0)),
                ('output_tokens', models.PositiveBigIntegerField(default=0)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('expires_at', models.DateTimeField()),
                ('in_progress_at', models.DateTimeField(blank=True, null=True)),
                ('finalizing_at', models.DateTimeField(blank=True, null=True)),
                ('cancelling_at', models.DateTimeField(blank=True, null=True)),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('api_key', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.apikey')),
                ('organization', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='batches', to='tenants.organization')),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='batches', to='tenants.project')),
            ],
            options={
                'verbose_name_plural': 'batches',
                'ordering': ['-pk'],
            },
        ),
        migrations.CreateModel(
            name='BatchLine',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField(help_text='Its place in the input file, from 1.')),
                ('custom_id', models.CharField(max_length=256)),
                ('position', models.PositiveBigIntegerField(help_text='Of its first byte in the file.')),
                ('length', models.PositiveIntegerField()),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('leased', 'Running'), ('done', 'Done'), ('failed', 'Failed')], default='waiting', max_length=8)),
                ('attempts', models.PositiveSmallIntegerField(db_default=0, default=0)),
                ('fencing_token', models.PositiveIntegerField(db_default=0, default=0)),
                ('lease_owner', models.CharField(blank=True, db_default='', max_length=80)),
                ('lease_expires_at', models.DateTimeField(null=True)),
                ('run_after', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('result', models.BinaryField(null=True)),
                ('batch', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='lines', to='inference.batch')),
                ('organization', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.organization')),
            ],
            options={
                'ordering': ['batch', 'number'],
            },
        ),
        migrations.CreateModel(
            name='File',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=inference.files.models.new_file_id, editable=False, max_length=32, unique=True)),
                ('filename', models.CharField(blank=True, max_length=255)),
                ('purpose', models.CharField(choices=[('batch', 'Requests of a batch'), ('batch_output', 'Results of a batch')], default='batch', max_length=16)),
                ('state', models.CharField(choices=[('receiving', 'Being received'), ('stored', 'Stored')], default='receiving', max_length=10)),
                ('bytes', models.PositiveBigIntegerField(default=0)),
                ('sha256', models.CharField(blank=True, max_length=64)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('deleted_at', models.DateTimeField(blank=True, null=True)),
                ('api_key', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='tenants.apikey')),
                ('organization', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='files', to='tenants.organization')),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='files', to='tenants.project')),
            ],
            options={
                'ordering': ['-pk'],
            },
        ),
        migrations.AddIndex(
            model_name='batch',
            index=models.Index(fields=['project', '-id'], name='inference_batch_by_project'),
        ),
        migrations.AddIndex(
            model_name='batch',
            index=models.Index(condition=models.Q(('ended_at', None)), fields=['organization', 'model'], name='inference_batch_open'),
        ),
        migrations.AddIndex(
            model_name='batch',
            index=models.Index(condition=models.Q(('status', 'in_progress')), fields=['id'], name='inference_batch_running'),
        ),
        migrations.AddConstraint(
            model_name='batch',
            constraint=models.CheckConstraint(condition=models.Q(('completed__lte', django.db.models.expressions.CombinedExpression(models.F('total'), '-', models.F('failed')))), name='inference_batch_counts_within_total'),
        ),
        migrations.AddIndex(
            model_name='batchline',
            index=models.Index(condition=models.Q(('state', 'waiting')), fields=['batch', 'number'], name='inference_line_waiting'),
        ),
        migrations.AddIndex(
            model_name='batchline',
            index=models.Index(condition=models.Q(('state', 'leased')), fields=['lease_expires_at'], name='inference_line_leases'),
        ),
        migrations.AddConstraint(
            model_name='batchline',
            constraint=models.UniqueConstraint(fields=('batch', 'number'), name='inference_line_once'),
        ),
        migrations.AddConstraint(
            model_name='batchline',
            constraint=models.UniqueConstraint(fields=('batch', 'custom_id'), name='inference_line_custom_id_once'),
        ),
        migrations.AddIndex(
            model_name='file',
            index=models.Index(fields=['project', '-id'], name='inference_file_by_project'),
        ),
        migrations.AddIndex(
            model_name='file',
            index=models.Index(condition=models.Q(('deleted_at', None)), fields=['organization'], include=('bytes',), name='inference_file_quota'),
        ),
        migrations.AddIndex(
            model_name='file',
            index=models.Index(condition=models.Q(('expires_at__isnull', False)), fields=['expires_at'], name='inference_file_expiry'),
        ),
        isolation.protect("inference_file"),
        isolation.protect("inference_batch"),
        isolation.protect("inference_batchline"),
    ]
