"""Members as callers of models: what the portal's own pages ask, without a key.

A member who may make a key in a project may call what it serves. Such a call counts for the
organization and the project as a key's does, and its usage names no key. It is asked for by a
ticket (``tenants.tickets``) that only the portal issues, to a session that it has checked.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from datetime import UTC, datetime

from django.db import connection

from tenants import access, scope
from tenants.authentication import Credentials
from tenants.models import Membership, Project
from tenants.principal import Principal
from tenants.principals import read_principal

# To make a key is to be able to call, so that this is no more than they have.
PERMISSION = "key.create"
# A page that stays open asks for another ticket.
LONGEST_S = 3_600
# No key's lookup part has a colon (``tenants.keys``), so that no header can say this.
_LOOKUP = re.compile(r"member:(\d{1,18}):(\d{1,18}):(\d{1,18}):(\d{1,12})")
_READ = """
SELECT jsonb_build_object(
    'organization', to_jsonb(organization),
    'plan', to_jsonb(plan),
    'project', to_jsonb(project),
    'plan_models', (
        SELECT jsonb_agg(to_jsonb(model_limit)) FROM tenants_planmodellimit AS model_limit
        WHERE model_limit.plan_id = plan.id
    ),
    'project_models', (
        SELECT jsonb_agg(to_jsonb(model_limit)) FROM tenants_projectmodellimit AS model_limit
        WHERE model_limit.project_id = project.id
    )
)::text
FROM tenants_project AS project
JOIN tenants_organization AS organization ON organization.id = project.organization_id
JOIN tenants_plan AS plan ON plan.id = organization.plan_id
WHERE project.id = %s AND organization.id = %s AND project.archived_at IS NULL
"""


def credentials_of_member(membership: Membership, project: Project) -> Credentials:
    """Good for an hour, and as long as the membership and its permission are."""
    ends_at = int(time.time()) + LONGEST_S
    lookup = f"member:{membership.organization_id}:{membership.pk}:{project.pk}:{ends_at}"
    return Credentials(lookup, hashlib.sha256(lookup.encode()).digest())


def is_member(lookup: str) -> bool:
    return lookup.startswith("member:")


def get_member_principal(lookup: str) -> Principal | None:
    """The member in that project, as everything is now; None if they may not call any more."""
    match = _LOOKUP.fullmatch(lookup)
    if match is None:
        return None
    organization, membership, project, ends_at = (int(part) for part in match.groups())
    with scope.for_organization(organization):
        return _find(organization, membership, project, ends_at)


def _find(organization: int, membership: int, project: int, ends_at: int) -> Principal | None:
    rows = Membership.objects.select_related("user", "organization")
    member = rows.filter(pk=membership, organization=organization, user__is_active=True).first()
    place = Project.objects.filter(pk=project, organization=organization, archived_at=None).first()
    if member is None or place is None or not access.is_allowed(member, PERMISSION, place):
        return None
    with connection.cursor() as cursor:
        cursor.execute(_READ, [project, organization])
        row = cursor.fetchone()
    if row is None:
        return None
    # Negative, as no key's is: what counts by key counts by person (``principal.key_of``).
    end = datetime.fromtimestamp(ends_at, UTC)
    return read_principal(json.loads(row[0]), person=-member.user_id, end=end)
