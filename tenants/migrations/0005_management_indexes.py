"""What the management API adds: an organization's own spend limit."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tenants", "0004_isolation")]

    operations = [
        migrations.AddField(
            model_name="organization",
            name="spend_limit_micros",
            field=models.PositiveBigIntegerField(
                blank=True,
                help_text="Micro-dollars a calendar month (UTC) that it allows itself to spend.",
                null=True,
            ),
        ),
    ]
