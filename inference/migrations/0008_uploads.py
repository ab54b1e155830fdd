"""Files that come in parts."""

import django.db.models.deletion
import django.db.models.functions.datetime
import inference.uploads.models
from django.db import migrations, models

from tenants import isolation


class Migration(migrations.Migration):

    dependencies = [
        ('inference', '0007_background_responses'),
        ('tenants', '0014_person_preferences'),
    ]

    operations = [
        migrations.CreateModel(
            name='Upload',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=inference.uploads.models.new_upload_id, editable=False, max_length=32, unique=True)),
                ('filename', models.CharField(max_length=255)),
                ('mime_type', models.CharField(blank=True, max_length=255)),
                ('purpose', models.CharField(choices=[('batch', 'Requests of a batch'), ('batch_output', 'Results of a batch')], max_length=16)),
                ('bytes', models.PositiveBigIntegerField(help_text='Of the whole file, as announced.')),
                ('file_kept_for_s', models.PositiveIntegerField(blank=True, null=True)),
                ('state', models.CharField(choices=[('pending', 'Pending'), ('completed', 'Completed'), ('cancelled', 'Cancelled')], default='pending', max_length=10)),
                ('part_bytes', models.PositiveBigIntegerField(default=0)),
                ('part_count', models.PositiveIntegerField(default=0)),
                ('part_ids', models.JSONField(blank=True, default=list)),
                ('leased_until', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('expires_at', models.DateTimeField()),
                ('api_key', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='tenants.apikey')),
                ('file', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='inference.file')),
                ('organization', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.organization')),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.project')),
            ],
            options={
                'ordering': ['-pk'],
            },
        ),
        migrations.CreateModel(
            name='UploadPart',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=inference.uploads.models.new_part_id, editable=False, max_length=32, unique=True)),
                ('bytes', models.PositiveBigIntegerField(help_text='While it comes, the most that it can be.')),
                ('is_stored', models.BooleanField(default=False)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('organization', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.organization')),
                ('upload', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='parts', to='inference.upload')),
            ],
            options={
                'ordering': ['pk'],
            },
        ),
        migrations.AddIndex(
            model_name='upload',
            index=models.Index(fields=['organization', 'state'], name='inference_upload_of'),
        ),
        migrations.AddIndex(
            model_name='upload',
            index=models.Index(fields=['expires_at'], name='inference_upload_expiry'),
        ),
        isolation.protect("inference_upload"),
        isolation.protect("inference_uploadpart"),
    ]
