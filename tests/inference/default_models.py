"""The default models in the suite's model store, pulled if a test is the first to want them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from django.conf import settings

from inference.store.defaults import DEFAULTS
from inference.store.pull import pull_model

# The suite's own, read before a test points the setting at an empty folder.
STORE = Path(settings.MODEL_STORE)


@cache
def default_folder(model: str) -> Path:
    (wanted,) = (default.pull for default in DEFAULTS if default.pull.model == model)
    return pull_model(wanted, STORE, print).folder
