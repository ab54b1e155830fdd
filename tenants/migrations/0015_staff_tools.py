"""Announcements, and the permission to look at an organization's portal."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0014_person_preferences'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='organization',
            options={'ordering': ['name', 'pk'], 'permissions': [('look_into_organization', "Can look at an organization's portal, changing nothing")]},
        ),
        migrations.CreateModel(
            name='Announcement',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('title', models.CharField(max_length=80)),
                ('text', models.CharField(max_length=400)),
                ('level', models.CharField(choices=[('info', 'Information'), ('good', 'Good news'), ('warn', 'Warning'), ('bad', 'Disruption')], default='info', max_length=4)),
                ('starts_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='From')),
                ('ends_at', models.DateTimeField(blank=True, help_text='Empty: until it is deleted.', null=True, verbose_name='Until')),
                ('is_dismissible', models.BooleanField(default=True, help_text='By each person for themselves.', verbose_name='May be dismissed')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('plan', models.ForeignKey(blank=True, help_text='Told to organizations on this plan; empty tells all.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.plan')),
            ],
            options={
                'ordering': ['-starts_at', '-pk'],
            },
        ),
        migrations.CreateModel(
            name='AnnouncementDismissal',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField(auto_now_add=True)),
                ('announcement', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='dismissals', to='tenants.announcement')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.AddConstraint(
            model_name='announcement',
            constraint=models.CheckConstraint(condition=models.Q(('ends_at', None), ('ends_at__gt', models.F('starts_at')), _connector='OR'), name='tenants_announcement_ends_after_it_starts', violation_error_message='It must end after it starts.'),
        ),
        migrations.AddConstraint(
            model_name='announcementdismissal',
            constraint=models.UniqueConstraint(fields=('announcement', 'user'), name='tenants_announcement_dismissed_once'),
        ),
    ]
