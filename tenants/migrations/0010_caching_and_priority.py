"""Terms of the semantic cache, and a plan's own word for the service tier priority.

Until now whoever bought dedicated capacity had that tier, and keeps it.
"""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0009_staff_flags'),
    ]

    operations = [
        migrations.AddField(
            model_name='organization',
            name='semantic_cache',
            field=models.CharField(choices=[('off', 'Off'), ('asked', 'For requests that ask for it'), ('all', 'For every request that it fits')], db_default='off', default='off', help_text='Whether a question may be given the answer to a similar one.', max_length=8),
        ),
        migrations.AddField(
            model_name='organization',
            name='semantic_cache_threshold',
            field=models.FloatField(blank=True, help_text="Least cosine similarity of two questions that count as one; empty is the platform's default.", null=True),
        ),
        migrations.AddField(
            model_name='organization',
            name='semantic_cache_ttl_s',
            field=models.PositiveIntegerField(db_default=3600, default=3600, help_text='Seconds such an answer is kept.'),
        ),
        migrations.AddField(
            model_name='plan',
            name='allows_priority',
            field=models.BooleanField(db_default=False, default=False, help_text='Requests may name the service tier priority, at its price.'),
        ),
        migrations.RunSQL(
            "UPDATE tenants_plan SET allows_priority = allows_dedicated_capacity",
            migrations.RunSQL.noop,
        ),
        migrations.AddConstraint(
            model_name='organization',
            constraint=models.CheckConstraint(condition=models.Q(('semantic_cache_ttl_s__range', (60, 86400))), name='tenants_org_semantic_ttl_within_a_day'),
        ),
        migrations.AddConstraint(
            model_name='organization',
            constraint=models.CheckConstraint(condition=models.Q(('semantic_cache_threshold__isnull', True), ('semantic_cache_threshold__range', (0.5, 1.0)), _connector='OR'), name='tenants_org_semantic_threshold'),
        ),
    ]
