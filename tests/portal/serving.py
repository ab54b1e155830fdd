"""Models that deployments serve, in the database alone: for pages, which ask no engine."""

from __future__ import annotations

from typing import Any

from inference.models import Deployment, Model, ModelAlias, ModelVersion
from tenants.models import Organization


def serve(
    name: str,
    *,
    kind: str = "chat",
    context: int = 2_048,
    alias: str = "",
    dedicated_to: Organization | None = None,
    **version: Any,
) -> Deployment:
    model, is_new = Model.objects.get_or_create(name=name, defaults={"kind": kind})
    if is_new and alias:
        ModelAlias.objects.create(name=alias, model=model)
    number = str(model.versions.count() + 1)
    row = ModelVersion.objects.create(
        model=model,
        version=number,
        source_uri="file://x",
        max_context_tokens=context,
        **version,
    )
    slug = f"{name}-{number}".replace("/", "-")
    return Deployment.objects.create(name=slug, version=row, dedicated_to=dedicated_to)
