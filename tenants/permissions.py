"""What may be done, and which predefined role may do it. Names are ``noun.verb``.

``access`` answers for a member or an admin key; nobody gives away a permission
that they do not have.
"""

from __future__ import annotations

from tenants.models.roles import ProjectRole, Role

READ = frozenset({"organization.read", "member.read", "project.read", "key.read", "usage.read"})
WORK = frozenset({"key.create", "key.revoke"})
# What only makes sense for the whole organization.
ORGANIZATION_ONLY = frozenset(
    {
        "organization.read",
        "organization.update",
        "member.manage",
        "group.manage",
        "role.manage",
        "project.create",
        "billing.read",
        "billing.manage",
        "audit.read",
        "admin_key.manage",
        "sso.manage",
        "webhook.manage",
    }
)
PROJECT = frozenset(
    {
        "project.read",
        "project.manage",
        "project_member.manage",
        "service_account.manage",
        "limit.manage",
        "member.read",
        "key.read",
        "usage.read",
    }
    | WORK
)
ALL = ORGANIZATION_ONLY | PROJECT

OF_ROLE: dict[str, frozenset[str]] = {
    Role.OWNER: ALL,
    # Everything but the money, and so nobody who may touch the money either.
    Role.ADMIN: ALL - {"billing.manage"},
    Role.BILLING: (READ - {"key.read"}) | {"billing.read", "billing.manage", "audit.read"},
    Role.DEVELOPER: READ | WORK,
    Role.VIEWER: READ,
}
OF_PROJECT_ROLE: dict[str, frozenset[str]] = {
    ProjectRole.OWNER: PROJECT,
    ProjectRole.MEMBER: frozenset({"project.read", "member.read", "key.read", "usage.read"}) | WORK,
    ProjectRole.VIEWER: frozenset({"project.read", "member.read", "key.read", "usage.read"}),
}

# What keys that infer may be held to; a key without scopes may do all of these.
KEY_SCOPES = frozenset(
    {
        "models.read",
        "inference.chat",
        "inference.completions",
        "inference.embeddings",
        "inference.rerank",
        "inference.tokenize",
        "files.read",
        "files.write",
        "batches.read",
        "batches.write",
        "answers.read",
        "answers.write",
    }
)
