"""Who: people, plans, organizations, projects, memberships, keys, the audit trail.

Tenant-owned models have a ``TenantManager``; a test holds each of their tables to a
row policy in PostgreSQL.
"""

from tenants.models.announcements import Announcement, AnnouncementDismissal
from tenants.models.audit import AuditChain, AuditEvent
from tenants.models.groups import Group, GroupMember
from tenants.models.job import Job
from tenants.models.keys import ApiKey, ApiKeyAddress, ServiceAccount
from tenants.models.limits import LimitFields
from tenants.models.membership import Invitation, Membership, ProjectMembership
from tenants.models.organizations import (
    Organization,
    Project,
    ProjectModelLimit,
    ScreeningPolicy,
    SemanticCache,
)
from tenants.models.people import User, UserManager
from tenants.models.plans import Plan, PlanModelLimit
from tenants.models.requests import IdempotentRequest
from tenants.models.roles import CustomRole, ProjectRole, Role, RoleAssignment
from tenants.models.single_sign_on import IdentityProvider
from tenants.models.webhooks import (
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
)

__all__ = [
    "Announcement",
    "AnnouncementDismissal",
    "ApiKey",
    "ApiKeyAddress",
    "AuditChain",
    "AuditEvent",
    "CustomRole",
    "Group",
    "GroupMember",
    "IdempotentRequest",
    "IdentityProvider",
    "Invitation",
    "Job",
    "LimitFields",
    "Membership",
    "Organization",
    "Plan",
    "PlanModelLimit",
    "Project",
    "ProjectMembership",
    "ProjectModelLimit",
    "ProjectRole",
    "Role",
    "RoleAssignment",
    "ScreeningPolicy",
    "SemanticCache",
    "ServiceAccount",
    "User",
    "UserManager",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
]
