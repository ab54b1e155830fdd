"""Public identifiers: a readable prefix and 96 random bits, as in ``org_…``."""

from __future__ import annotations

import secrets

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def random_text(length: int) -> str:
    """``length`` characters of 5.95 random bits each."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def new_organization_id() -> str:
    return "org_" + random_text(16)


def new_project_id() -> str:
    return "proj_" + random_text(16)


def new_key_id() -> str:
    return "key_" + random_text(16)


def new_user_id() -> str:
    return "user_" + random_text(16)


def new_service_account_id() -> str:
    return "svc_" + random_text(16)


def new_invitation_id() -> str:
    return "invite_" + random_text(16)


def new_group_id() -> str:
    return "group_" + random_text(16)


def new_role_id() -> str:
    return "role_" + random_text(16)


def new_identity_provider_id() -> str:
    return "idp_" + random_text(16)


def new_audit_event_id() -> str:
    return "audit_" + random_text(16)


def new_job_id() -> str:
    return "job_" + random_text(16)


def new_webhook_id() -> str:
    return "webhook_" + random_text(16)


def new_event_id() -> str:
    return "evt_" + random_text(16)


def new_delivery_id() -> str:
    return "whd_" + random_text(16)


def new_spend_alert_id() -> str:
    return "alert_" + random_text(16)
