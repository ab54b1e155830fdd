"""The default models in the model store, pulled if a test is the first to want them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from django.conf import settings

from inference.store.defaults import DEFAULTS
from inference.store.pull import pull_model

CHECKOUT_STORE = Path(__file__).resolve().parents[2] / ".sluice" / "models"


@cache
def default_folder(model: str) -> Path:
    """The folder of a default model; the checkout's own store saves a second conversion."""
    (wanted,) = (default.pull for default in DEFAULTS if default.pull.model == model)
    store = Path(settings.MODEL_STORE)
    if not (store / model).exists() and (CHECKOUT_STORE / model).exists():
        store = CHECKOUT_STORE
    return pull_model(wanted, store, print).folder
