"""The covering index also holds what pages cut usage by: status, waits, project and key."""

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    # Concurrently, so that recording goes on while a big table gets its index.
    atomic = False

    dependencies = [("billing", "0008_spend_alerts")]

    operations = [
        AddIndexConcurrently(
            "usageevent",
            models.Index(
                fields=["organization", "-started_at"],
                include=[
                    "model",
                    "prompt_tokens",
                    "completion_tokens",
                    "cached_tokens",
                    "cost_micros",
                    "status",
                    "time_to_first_token_ms",
                    "project",
                    "api_key",
                ],
                name="billing_usage_of_org",
            ),
        ),
        RemoveIndexConcurrently("usageevent", "billing_usage_by_org"),
    ]
