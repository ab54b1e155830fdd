"""Batches: many requests in one file, run at batch priority within a day, each once.

Rows are the truth: a batch, and a line of it until its result lies in a file. Whoever runs a
line holds a lease on it and commits its result, its cost and the batch's counts in one
transaction, under the line's newest fencing token (docs/adr/0028-batches.md).
"""

# The kinds of the two jobs that a batch has (``workers.jobs.kinds``).
BATCH_VALIDATION = "batch.validation"
BATCH_OUTPUT = "batch.output"
