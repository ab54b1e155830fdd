"""Write a batch's files, and end it."""

from __future__ import annotations

from inference.batches.output import write_output
from workers.jobs.perform import Kind
from workers.jobs.work import Work


def run(work: Work) -> None:
    write_output(work.job.payload["batch"], work.progress, work.effect)


KIND = Kind(run)
