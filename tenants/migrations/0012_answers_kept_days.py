"""For how many days an organization keeps answers."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0011_batches'),
    ]

    operations = [
        migrations.AddField(
            model_name='organization',
            name='answers_kept_days',
            field=models.PositiveSmallIntegerField(db_default=30, default=30, help_text='Days for which responses, and completions that ask for it, are kept; 0 keeps none.'),
        ),
        migrations.AddConstraint(
            model_name='organization',
            constraint=models.CheckConstraint(condition=models.Q(('answers_kept_days__lte', 365)), name='tenants_org_answers_within_a_year'),
        ),
    ]
