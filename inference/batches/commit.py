"""What came of lines becomes true: result, cost and counts, in one transaction.

A line's cost is posted only if this transaction ends the line, so a line is billed once
whoever dies when, and what was billed is what its result says.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from billing.recording import record_usage
from billing.usage import UsageReport
from inference.batches.actions import enqueue_output
from inference.batches.lines import HeldLine
from inference.batches.locks import lock_expired_batches, lock_running_batches
from inference.batches.models import Batch


@dataclass(frozen=True, slots=True)
class LineResult:
    """One line's end: ``content`` is its line of the output or, if it failed, the error file."""

    line: HeldLine
    is_done: bool
    content: bytes
    usage: UsageReport | None = None  # None: nothing ran


_END_LINES = """
UPDATE inference_batchline AS line
SET state = ended.state, result = ended.result, lease_owner = '', lease_expires_at = NULL
FROM unnest(%s::bigint[], %s::int[], %s::text[], %s::bytea[]) AS ended(id, token, state, result)
WHERE line.id = ended.id AND line.fencing_token = ended.token AND line.state = 'leased'
RETURNING line.id
"""


@transaction.atomic
def commit_results(results: Sequence[LineResult]) -> set[int]:
    """Returns the primary keys of the lines that these results ended. The others' were
    somebody else's by now, or their batch is over: nothing of them is kept or billed."""
    batches = lock_running_batches({result.line.batch.pk for result in results})
    counted = [result for result in results if result.line.batch.pk in batches]
    ended = _end_lines(counted)
    won = [result for result in counted if result.line.pk in ended]
    record_usage([result.usage for result in won if result.usage is not None])
    by_batch: dict[int, list[LineResult]] = defaultdict(list)
    for result in won:
        by_batch[result.line.batch.pk].append(result)
    for pk in sorted(by_batch):
        _count(batches[pk], by_batch[pk])
    return ended


def _end_lines(results: Sequence[LineResult]) -> set[int]:
    # In the order of their keys, as everybody locks them.
    ordered = sorted(results, key=lambda result: result.line.pk)
    with connection.cursor() as cursor:
        cursor.execute(
            _END_LINES,
            [
                [result.line.pk for result in ordered],
                [result.line.token for result in ordered],
                ["done" if result.is_done else "failed" for result in ordered],
                [result.content for result in ordered],
            ],
        )
        return {pk for (pk,) in cursor.fetchall()}


def _count(batch: Batch, ended: Sequence[LineResult]) -> None:
    done = sum(result.is_done for result in ended)
    used: Counter[str] = Counter()
    for usage in (result.usage for result in ended if result.usage is not None):
        used["input_tokens"] += usage.prompt_tokens
        used["cached_tokens"] += usage.cached_tokens
        used["output_tokens"] += usage.completion_tokens
    values = {"completed": done, "failed": len(ended) - done, **used}
    Batch.objects.filter(pk=batch.pk).update(
        **{name: F(name) + added for name, added in values.items()}
    )
    if batch.completed + batch.failed + len(ended) >= batch.total:
        finalize(batch, Batch.Status.COMPLETED)


def finalize(batch: Batch, ends_as: str) -> None:
    """Nothing of it runs any more, for the reason that ``ends_as`` says; it is locked."""
    Batch.objects.filter(pk=batch.pk).update(
        status=Batch.Status.FINALIZING, ends_as=ends_as, finalizing_at=Now()
    )
    enqueue_output(batch)


@transaction.atomic
def expire_batches() -> list[str]:
    """End those whose day is over; returns their public ids. What is finished is kept."""
    expired = lock_expired_batches(100)
    for batch in expired:
        finalize(batch, Batch.Status.EXPIRED)
    return [batch.public_id for batch in expired]
