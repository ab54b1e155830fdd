"""Staff pages for organizations and all that belongs to them; one module a place.

Each changes rows by the room's actions, as the portal does, so that every rule and
every audit event of a change holds for staff as well.
"""

from django.contrib import admin

from tenants.admin import (
    announcements,
    audit,
    jobs,
    keys,
    members,
    organizations,
    people,
    plans,
    projects,
    providers,
)

__all__ = [
    "announcements",
    "audit",
    "jobs",
    "keys",
    "members",
    "organizations",
    "people",
    "plans",
    "projects",
    "providers",
]

# Pages of other packages would change accounts without an audit event, and show secrets.
for model in list(admin.site._registry):
    if model._meta.app_label in ("account", "auth", "mfa", "socialaccount", "usersessions"):
        admin.site.unregister(model)
