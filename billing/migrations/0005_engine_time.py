"""Engine time of a request, with a default in the database for the release before."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0004_credit'),
    ]

    operations = [
        migrations.AddField(
            model_name='usageevent',
            name='engine_us',
            field=models.BigIntegerField(db_default=0, default=0, help_text='Engine time of its sequences in microseconds.'),
        ),
    ]
