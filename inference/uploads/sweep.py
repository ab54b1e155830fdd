"""Uploads that ended leave the store, then the tables."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

from django.db.models import Q
from django.db.models.functions import Now

from inference.errors import InferenceError
from inference.files import actions as file_actions
from inference.objects import object_store
from inference.uploads.models import Upload, UploadPart

log = logging.getLogger(__name__)

# Whoever asks again what became of it is told for so long.
TOLD_FOR = timedelta(days=1)
MOST_A_SWEEP = 2_000


def sweep_uploads(check: Callable[[], None] = lambda: None) -> int:
    """Everybody's, so only for staff. Returns how many parts went; ``check`` may raise."""
    _expire()
    store, swept = object_store(), 0
    ended = UploadPart.objects.exclude(upload__state=Upload.State.PENDING)
    for part in ended.order_by("pk")[:MOST_A_SWEEP]:
        check()
        try:
            store.delete(part.object_key)
        except InferenceError:
            log.warning("uploads.not_deleted", extra={"part": part.public_id}, exc_info=True)
            continue
        part.delete()
        swept += 1
    Upload.objects.exclude(state=Upload.State.PENDING).filter(
        parts=None, created_at__lt=Now() - TOLD_FOR
    ).delete()
    return swept


def _expire() -> None:
    """Nobody completes them any more; who is at it may end it."""
    over = Upload.objects.filter(state=Upload.State.PENDING, expires_at__lt=Now())
    for upload in over.exclude(leased_until__gt=Now()).select_related("file")[:MOST_A_SWEEP]:
        still = Upload.objects.filter(Q(leased_until=None) | Q(leased_until__lt=Now()))
        if (
            still.filter(pk=upload.pk, state=Upload.State.PENDING).update(
                state=Upload.State.CANCELLED
            )
            and upload.file is not None
        ):
            file_actions.give_up_file(upload.file)
