"""Kept answers (docs/adr/0029-stored-answers.md)."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

from tenants import isolation


class Migration(migrations.Migration):

    dependencies = [
        ('inference', '0005_batches'),
        ('tenants', '0012_answers_kept_days'),
    ]

    operations = [
        migrations.CreateModel(
            name='StoredAnswer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(editable=False, max_length=64, unique=True)),
                ('kind', models.CharField(choices=[('response', 'Response'), ('chat.completion', 'Chat completion')], max_length=16)),
                ('model', models.CharField(max_length=200)),
                ('metadata', models.JSONField(blank=True, null=True)),
                ('previous', models.CharField(blank=True, max_length=64)),
                ('content', models.BinaryField()),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('api_key', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='tenants.apikey')),
                ('organization', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.organization')),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.project')),
            ],
            options={
                'ordering': ['-pk'],
            },
        ),
        migrations.AddIndex(
            model_name='storedanswer',
            index=models.Index(fields=['project', 'kind', '-id'], name='inference_answer_by_project'),
        ),
        migrations.AddIndex(
            model_name='storedanswer',
            index=models.Index(fields=['created_at'], name='inference_answer_by_age'),
        ),
        isolation.protect("inference_storedanswer"),
    ]
