"""Events told to URLs of the tenants' own (docs/adr/0031-webhooks.md).

``tell`` in the transaction of what happened; a job for each endpoint delivers it.
"""

from tenants.webhooks.outbox import DELIVERY, tell
from tenants.webhooks.types import TYPES

__all__ = ["DELIVERY", "TYPES", "tell"]
