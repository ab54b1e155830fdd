"""What the whole installation served within some hours is found without reading all of it.

BRIN: rows come in the order of time, and it costs recording next to nothing.
"""

import django.contrib.postgres.indexes
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    # Concurrently, so that recording goes on while a big table gets its index.
    atomic = False

    dependencies = [("billing", "0009_usage_analysis")]

    operations = [
        AddIndexConcurrently(
            "usageevent",
            django.contrib.postgres.indexes.BrinIndex(
                "started_at",
                autosummarize=True,
                pages_per_range=32,
                name="billing_usage_by_time",
            ),
        ),
    ]
