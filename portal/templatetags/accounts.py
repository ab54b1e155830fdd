"""What the pages of accounts ask for: allauth's views do not hand it to them."""

from __future__ import annotations

import re

from allauth.mfa.models import Authenticator
from django import template
from django.db.models import QuerySet
from django.utils.translation import gettext

from tenants import access
from tenants.models import Membership, User

register = template.Library()

# The first that is named decides: Edge and Opera call themselves Chrome too.
BROWSERS = (
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


@register.simple_tag
def memberships_of(user: User) -> QuerySet[Membership]:
    return access.get_memberships(user)


@register.simple_tag
def factors_of(user: User) -> dict[str, bool]:
    kinds = set(Authenticator.objects.filter(user_id=user.pk).values_list("type", flat=True))
    return {"totp": "totp" in kinds, "passkeys": "webauthn" in kinds}


@register.filter
def browser(user_agent: str) -> str:
    """``Firefox on Linux``, or the first word of whatever it was."""
    names = [
        next((name for sign, name in known if sign in user_agent), "")
        for known in (BROWSERS, SYSTEMS)
    ]
    program, system = names
    if program and system:
        return gettext("%(program)s on %(system)s") % {"program": program, "system": system}
    found = program or system
    return (
        found
        or re.split(r"[\s(]", user_agent.strip(), maxsplit=1)[0][:60]
        or gettext("Unknown browser")
    )
