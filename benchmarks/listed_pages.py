"""How long lists take to show: staff admin, portal and management API of a full database."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import NoReverseMatch, Resolver404, URLPattern, resolve, reverse

from benchmarks.arithmetic import percentile
from benchmarks.seed import Population
from benchmarks.server import say
from portal.organization_urls import urlpatterns
from tenants import scope
from tenants.models import User

WARM_UP = 2
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Page:
    kind: str
    label: str
    url: str


def pages(population: Population, rounds: int) -> list[dict[str, object]]:
    """Each page ``rounds`` times: milliseconds, and statements of the last time."""
    # As the web process has them: no scope until a request enters one.
    clients = {
        "admin": _client_of(population.users),
        "portal": _client_of(1),
        "management": Client(
            HTTP_HOST=HOST, headers={"authorization": f"Bearer {population.key_text(1)}"}
        ),
    }
    return [
        _measured(clients[page.kind], page, rounds)
        for page in (*_admin(population), *_portal(population), *_management(population))
    ]


def _client_of(user: int) -> Client:
    client = Client(HTTP_HOST=HOST)
    with scope.for_staff():
        client.force_login(User.objects.get(pk=user))
    return client


def _measured(client: Client, page: Page, rounds: int) -> dict[str, object]:
    times, spent = [], []
    for _ in range(WARM_UP + rounds):
        started, cpu = time.perf_counter(), time.thread_time()
        response = client.get(page.url)
        spent.append((time.thread_time() - cpu) * 1000)
        times.append((time.perf_counter() - started) * 1000)
    with CaptureQueriesContext(connection) as statements:
        client.get(page.url)
    slowest = sorted(statements.captured_queries, key=lambda query: -float(query["time"]))[:3]
    measured: dict[str, object] = {
        "kind": page.kind,
        "label": page.label,
        "status": response.status_code,
        "first_ms": times[0],
        "median_ms": statistics.median(times[WARM_UP:]),
        "least_ms": min(times[WARM_UP:]),
        "cpu_ms": statistics.median(spent[WARM_UP:]),
        "p95_ms": percentile(times[WARM_UP:], 0.95),
        "queries": len(statements.captured_queries),
        "slowest": [{"s": query["time"], "sql": query["sql"]} for query in slowest],
    }
    say(
        f"{page.kind} {page.label}: {measured['status']}, {measured['median_ms']:.1f} ms, "
        f"{measured['queries']} queries, slowest {slowest[0]['time'] if slowest else 0} s"
    )
    return measured


# --- Which pages -----------------------------------------------------------------------------


def _admin(p: Population) -> Iterator[Page]:
    name, email = p.name_of(p.organizations // 2), f"person{p.organizations // 2}@example.com"
    lists: dict[str, dict[str, dict[str, Any]]] = {
        "tenants_organization": {
            "organizations": {},
            "organizations, page 200": {"p": 200},
            "organizations, search by name": {"q": name},
            "organizations, search by a member's address": {"q": email},
            "organizations, search by id": {"q": p.public_id("org", 77)},
            "organizations, search without result": {"q": "nowhere"},
        },
        "tenants_apikey": {
            "keys": {},
            "keys, page 100": {"p": 100},
            "keys, search by id": {"q": p.public_id("key", 77)},
            "keys, search by last four": {"q": p.key_text(77)[-4:]},
            "keys, search by organization": {"q": name},
            "keys, revoked": {"revoked_at__isempty": 0},
        },
        "tenants_user": {
            "users": {},
            "users, search by address": {"q": email},
            "users, search without result": {"q": "nobody"},
        },
        "tenants_project": {"projects": {}, "projects, search": {"q": name}},
        "tenants_auditevent": {
            "audit": {},
            "audit, page 100": {"p": 100},
            "audit, search by object": {"q": p.public_id("key", 77)},
            "audit, search by organization": {"q": name},
        },
        "billing_usageevent": {
            "usage": {},
            "usage, page 100": {"p": 100},
            "usage, search by request": {"q": f"{77:024x}"},
        },
    }
    for model, queries in lists.items():
        for label, query in queries.items():
            yield Page("admin", label, reverse(f"admin:{model}_changelist", query=query))
    yield Page("admin", "organization, the big one", _change("organization", 1))
    yield Page("admin", "key", _change("apikey", 77))
    yield Page("admin", "user", _change("user", 77))


def _change(model: str, pk: int) -> str:
    return reverse(f"admin:tenants_{model}_change", args=[pk])


def _portal(p: Population) -> Iterator[Page]:
    """Every page of the portal that needs nothing but an organization to be shown."""
    organization = p.public_id("org", 1)
    for pattern in urlpatterns:
        if not isinstance(pattern, URLPattern) or not pattern.name:
            continue
        try:
            url = reverse(pattern.name, kwargs={"organization_id": organization})
        except NoReverseMatch:  # a page of one key, one member
            continue
        if "export" not in url:
            yield Page("portal", pattern.name, url)
    for name, page in (("keys", 100), ("members", 20), ("usage", 100), ("audit", 100)):
        url = reverse(name, args=[organization])
        yield Page("portal", f"{name}, page {page}", f"{url}?page={page}")


def _management(p: Population) -> Iterator[Page]:
    base = "/v1/organization/"
    project = f"projects/{p.public_id('proj', 1)}/"
    for path in (
        "projects", "users", "invites", "groups", "roles", "admin_api_keys", "audit_logs", "costs",
        "usage/completions", "usage/embeddings", f"{project}api_keys", f"{project}users",
        f"{project}service_accounts", f"{project}rate_limits",
    ):  # fmt: skip
        try:
            resolve(base + path)
        except Resolver404:
            continue
        query = "?start_time=1735689600" if path.startswith(("usage", "costs")) else ""
        label = path.replace(p.public_id("proj", 1), "{project}")
        yield Page("management", label, base + path + query)
