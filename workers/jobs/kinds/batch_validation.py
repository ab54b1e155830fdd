"""Read an uploaded file of requests, and start the batch or say what is wrong with it."""

from __future__ import annotations

from inference.batches.validation import validate_batch
from workers.jobs.perform import Kind
from workers.jobs.work import Work


def run(work: Work) -> None:
    validate_batch(work.job.payload["batch"], work.progress, work.effect)


KIND = Kind(run)
