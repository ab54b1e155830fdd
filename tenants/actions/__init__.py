"""Every change to tenants: one function and one transaction each, audited.

Changes that gateways cache are announced by ``notify_change`` in the same
transaction: PostgreSQL delivers the notice when, and only when, it commits.
"""

from tenants.actions.groups import (
    add_group_member,
    create_group,
    delete_group,
    remove_group_member,
    rename_group,
)
from tenants.actions.invitations import accept_invitation, invite_member, revoke_invitation
from tenants.actions.keys import (
    KeyTerms,
    create_api_key,
    revoke_api_key,
    rotate_api_key,
    set_api_key_suspended,
    touch_api_keys,
    update_api_key,
)
from tenants.actions.members import add_member, change_member_role, remove_member
from tenants.actions.notices import CHANNEL, notify_all_changed, notify_change
from tenants.actions.organizations import (
    create_organization,
    set_organization_suspended,
    set_spend_limit,
    update_organization,
)
from tenants.actions.plans import create_plan, ensure_default_plans
from tenants.actions.projects import (
    add_project_member,
    archive_project,
    change_project_member,
    create_project,
    remove_project_member,
    set_project_model_limit,
    update_project,
)
from tenants.actions.roles import (
    assign_role,
    create_role,
    delete_role,
    unassign_role,
    unassign_roles_in_project,
    update_role,
)
from tenants.actions.service_accounts import (
    create_service_account,
    create_service_account_with_key,
    delete_service_account,
    key_name_of,
    rename_service_account,
)
from tenants.actions.staff import create_staff_user
from tenants.actions.webhooks import (
    EndpointTerms,
    create_webhook,
    delete_webhook,
    replay_delivery,
    rotate_webhook_secret,
    send_test_event,
    update_webhook,
)

__all__ = [
    "CHANNEL",
    "EndpointTerms",
    "KeyTerms",
    "accept_invitation",
    "add_group_member",
    "add_member",
    "add_project_member",
    "archive_project",
    "assign_role",
    "change_member_role",
    "change_project_member",
    "create_api_key",
    "create_group",
    "create_organization",
    "create_plan",
    "create_project",
    "create_role",
    "create_service_account",
    "create_service_account_with_key",
    "create_staff_user",
    "create_webhook",
    "delete_group",
    "delete_role",
    "delete_service_account",
    "delete_webhook",
    "ensure_default_plans",
    "invite_member",
    "key_name_of",
    "notify_all_changed",
    "notify_change",
    "remove_group_member",
    "remove_member",
    "remove_project_member",
    "rename_group",
    "rename_service_account",
    "replay_delivery",
    "revoke_api_key",
    "revoke_invitation",
    "rotate_api_key",
    "rotate_webhook_secret",
    "send_test_event",
    "set_api_key_suspended",
    "set_organization_suspended",
    "set_project_model_limit",
    "set_spend_limit",
    "touch_api_keys",
    "unassign_role",
    "unassign_roles_in_project",
    "update_api_key",
    "update_organization",
    "update_project",
    "update_role",
    "update_webhook",
]
