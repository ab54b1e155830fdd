"""What an organization can be told of. Names are OpenAI's where it has the event."""

from __future__ import annotations

TYPES: dict[str, str] = {
    "batch.completed": "A batch has ended; its files are ready.",
    "batch.failed": "A batch did not pass validation.",
    "batch.expired": "A batch reached the end of its window.",
    "batch.cancelled": "A batch was cancelled.",
    "response.completed": "A background response is complete.",
    "response.failed": "A background response failed.",
    "response.incomplete": "A background response ended early, as at its token limit.",
    "response.cancelled": "A background response was cancelled.",
    "budget.threshold_reached": "This month's costs reached the threshold of a spend alert.",
    "budget.exceeded": "This month's costs reached the monthly budget.",
    "api_key.expiring": "An API key expires within a week.",
}
# What the button sends; nobody subscribes to it.
TEST = "webhook.test"
