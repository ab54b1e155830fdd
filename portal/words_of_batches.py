"""States of batches and kinds of files in words, with their tones. Pure."""

from __future__ import annotations

from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from inference.batches.models import Batch
from inference.files.models import File


class Word(NamedTuple):
    label: str | Promise
    tone: str  # a badge's


STATUSES: dict[str, Word] = {
    Batch.Status.VALIDATING: Word(gettext_lazy("Validating"), "info"),
    Batch.Status.FAILED: Word(gettext_lazy("Failed"), "bad"),
    Batch.Status.IN_PROGRESS: Word(gettext_lazy("In progress"), "info"),
    Batch.Status.FINALIZING: Word(gettext_lazy("Writing results"), "info"),
    Batch.Status.COMPLETED: Word(gettext_lazy("Completed"), "good"),
    Batch.Status.EXPIRED: Word(gettext_lazy("Expired"), "warn"),
    Batch.Status.CANCELLING: Word(gettext_lazy("Cancelling"), "warn"),
    Batch.Status.CANCELLED: Word(gettext_lazy("Cancelled"), ""),
}
PURPOSES: dict[str, str | Promise] = {
    File.Purpose.BATCH: gettext_lazy("Requests"),
    File.Purpose.BATCH_OUTPUT: gettext_lazy("Results"),
}
