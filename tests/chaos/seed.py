"""The tenants of a chaos run, made inside the platform by ``manage.py shell``."""

from __future__ import annotations

import json

from tenants.actions import create_api_key, create_organization
from tenants.actions.keys import KeyTerms
from tenants.models import User

OPEN = 3  # organizations that no sum limits
KEYS_EACH = 40
NARROW_AT_ONCE = 4
# Some hundreds of answers at the demo's prices.
BUDGET_MICROS = 1_000


def seed() -> None:
    """Make them, and print each as [name, primary key, keys, limit] in one line of JSON."""
    owner = User.objects.get(email="owner@demo.localhost")
    made = [
        *((f"open-{number}", KEYS_EACH, {}, 0) for number in range(1, OPEN + 1)),
        ("narrow", 1, {"concurrent_requests": NARROW_AT_ONCE}, NARROW_AT_ONCE),
        ("budget", 1, {"monthly_budget_micros": BUDGET_MICROS}, BUDGET_MICROS),
    ]
    told = []
    for name, count, limits, limit in made:
        organization = create_organization(f"Chaos {name}", acting_user=owner)
        project = organization.projects.get()
        terms = KeyTerms(limits=limits)
        keys = [
            create_api_key(project, f"Key {number}", acting_user=owner, terms=terms)[1]
            for number in range(count)
        ]
        told.append([name, organization.pk, keys, limit])
    print(json.dumps(told))
