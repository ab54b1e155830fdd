"""What each kind of job does: one file a kind, and this table of them."""

from __future__ import annotations

from billing.exports import USAGE_EXPORT
from billing.spend_watch import SPEND_ALERT_MAIL
from inference.batches import BATCH_OUTPUT, BATCH_VALIDATION
from tenants.exports import AUDIT_EXPORT
from tenants.key_expiry import KEY_EXPIRY_MAIL
from tenants.mail import INVITATION_MAIL
from tenants.webhooks import DELIVERY
from tenants.webhooks.notices import DISABLED_MAIL
from workers.jobs.kinds import (
    audit_export,
    batch_output,
    batch_validation,
    invitation_mail,
    key_expiry_mail,
    spend_alert_mail,
    usage_export,
    webhook_delivery,
    webhook_disabled_mail,
)
from workers.jobs.perform import Kind

KINDS: dict[str, Kind] = {
    AUDIT_EXPORT: audit_export.KIND,
    BATCH_OUTPUT: batch_output.KIND,
    BATCH_VALIDATION: batch_validation.KIND,
    INVITATION_MAIL: invitation_mail.KIND,
    KEY_EXPIRY_MAIL: key_expiry_mail.KIND,
    SPEND_ALERT_MAIL: spend_alert_mail.KIND,
    USAGE_EXPORT: usage_export.KIND,
    DELIVERY: webhook_delivery.KIND,
    DISABLED_MAIL: webhook_disabled_mail.KIND,
}
