"""What nobody sees any more leaves the object store, then the table.

In this order: a row that is still there when its object is gone is swept again; an object
without a row would lie there for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

from django.db.models import Q
from django.db.models.functions import Now

from inference.errors import InferenceError
from inference.files.models import File
from inference.objects import object_store

log = logging.getLogger(__name__)

# An upload may take ten minutes, and the results of a batch an hour to be written.
ABANDONED_AFTER = timedelta(hours=2)
# For a download or a batch that has just begun to read.
DELETED_AFTER = timedelta(minutes=1)
MOST_A_SWEEP = 500


def sweep_files(check: Callable[[], None] = lambda: None) -> int:
    """Everybody's, so only for staff. Returns how many went; ``check`` may raise to stop it."""
    due = (
        Q(deleted_at__lt=Now() - DELETED_AFTER)
        | Q(expires_at__lt=Now() - DELETED_AFTER)
        | Q(state=File.State.RECEIVING, created_at__lt=Now() - ABANDONED_AFTER)
    )
    store, swept = object_store(), 0
    for file in File.objects.filter(due).order_by("pk")[:MOST_A_SWEEP]:
        check()
        try:
            store.delete(file.object_key)
        except InferenceError:
            log.warning("files.not_deleted", extra={"file": file.public_id}, exc_info=True)
            continue
        file.delete()
        swept += 1
    return swept
