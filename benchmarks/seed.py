"""A database of the size that the platform is built for, filled by COPY in minutes.

Every row follows from the seed: ``key_text`` names the secret of any of the keys, so
that a benchmark can present them. A database is filled only if it is empty, and
remembers what it was filled with; any other is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.db import connection, models

from benchmarks.server import BenchmarkError, say
from billing.models import UsageEvent
from tenants import audit, keys
from tenants.identifiers import ALPHABET
from tenants.models import (
    ApiKey,
    AuditEvent,
    Membership,
    Organization,
    Plan,
    Project,
    Role,
    ServiceAccount,
    User,
)

# A byte to a character. Which ones are likelier does not matter: no secret protects anything.
_TO_ALPHABET = bytes(ALPHABET[byte % len(ALPHABET)].encode()[0] for byte in range(256))
_BUFFER = 2_000  # rows
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n"})
NAMES = ("Northwind", "Quarry", "Harbour", "Meridian", "Juniper", "Lantern", "Copper", "Sable")


@dataclass(frozen=True)
class Population:
    """How much of what. Organization 1 has the most of everything."""

    organizations: int = 100_000
    keys: int = 1_000_000
    big_keys: int = 10_000
    big_members: int = 2_000
    big_usage: int = 200_000
    big_audit: int = 20_000
    seed: int = 1

    @property
    def users(self) -> int:
        """An owner for each organization, then the members of the big one, then staff."""
        return self.organizations + self.big_members + 1

    def organization_of_key(self, number: int) -> int:
        if number <= self.big_keys:
            return 1
        return 2 + (number - self.big_keys - 1) % (self.organizations - 1)

    def kind_of_key(self, number: int) -> str:
        """Of every ten keys one is a service account's; each organization's first is an admin key."""
        if number == 1 or self.big_keys < number < self.big_keys + self.organizations:
            return "admin"
        return "service_account" if number % 10 == 0 else "project"

    def scrambled(self, what: str, number: int, length: int) -> str:
        """``length`` characters that belong to this thing alone."""
        text = f"{self.seed}:{what}:{number}".encode()
        return hashlib.blake2b(text, digest_size=length).digest().translate(_TO_ALPHABET).decode()

    def public_id(self, prefix: str, number: int) -> str:
        return f"{prefix}_{self.scrambled(prefix, number, 16)}"

    def key_text(self, number: int) -> str:
        """The secret of key ``number`` (from 1), as its owner would present it."""
        length = keys.LOOKUP_LENGTH + keys.SECRET_LENGTH
        return keys.PREFIXES[self.kind_of_key(number)] + self.scrambled("key", number, length)

    def name_of(self, organization: int) -> str:
        return f"{NAMES[organization % len(NAMES)]} {organization:06d}"


def fill(population: Population) -> None:
    """Fill the database that Django is connected to as its owner, once."""
    wanted = json.dumps({"sluice benchmark": asdict(population)})
    found = _remembered()
    if found == wanted:
        say("the database is filled already")
        return
    if found or Organization.objects.exists() or User.objects.exists():
        raise BenchmarkError(
            "This database holds something else; a benchmark fills an empty one of its own."
        )
    for name, copy in _TABLES.items():
        say(f"filling {name}")
        copy(population)
    _settle()
    _remember(wanted)


# --- The tables, in the order of their keys ------------------------------------------------


def _organizations(p: Population) -> None:
    plan = Plan.objects.get_or_create(
        slug="benchmark", defaults={"name": "Benchmark", "requests_per_minute": 2_000_000_000}
    )[0]
    _copy(
        Organization,
        ("id", "public_id", "name", "created_at"),
        (
            (n, p.public_id("org", n), p.name_of(n), _moment(n))
            for n in range(1, p.organizations + 1)
        ),
        plan_id=plan.pk,
    )


def _users(p: Population) -> None:
    _copy(
        User,
        ("id", "public_id", "email", "name", "is_staff", "is_superuser"),
        (
            (n, p.public_id("user", n), f"person{n}@example.com", f"Person {n}", is_last, is_last)
            for n in range(1, p.users + 1)
            for is_last in (n == p.users,)
        ),
        password=UNUSABLE_PASSWORD_PREFIX,
    )


def _memberships(p: Population) -> None:
    roles = (Role.DEVELOPER, Role.VIEWER, Role.ADMIN, Role.BILLING)

    def rows() -> Iterator[tuple[Any, ...]]:
        for n in range(1, p.organizations + 1):
            yield n, n, Role.OWNER, _moment(n)
        for n in range(1, p.big_members + 1):
            yield 1, p.organizations + n, roles[n % len(roles)], _moment(n)

    _copy(Membership, ("organization_id", "user_id", "role", "created_at"), rows())


def _projects(p: Population) -> None:
    """One project for each organization, with the organization's number."""
    _copy(
        Project,
        ("id", "public_id", "organization_id", "created_at"),
        ((n, p.public_id("proj", n), n, _moment(n)) for n in range(1, p.organizations + 1)),
        name="Default project",
    )


def _service_accounts(p: Population) -> None:
    _copy(
        ServiceAccount,
        ("id", "public_id", "organization_id", "project_id", "created_at"),
        ((n, p.public_id("svc", n), n, n, _moment(n)) for n in range(1, p.organizations + 1)),
        name="Deployment",
    )


def _api_keys(p: Population) -> None:
    pepper = settings.API_KEY_PEPPER

    def row(n: int) -> tuple[Any, ...]:
        text, kind, organization = p.key_text(n), p.kind_of_key(n), p.organization_of_key(n)
        return (
            n,
            p.public_id("key", n),
            organization,
            kind,
            None if kind == "admin" else organization,
            organization if kind == "service_account" else None,
            organization,
            f"Key {n}",
            keys.lookup_of(text) or "",
            keys.digest(text, pepper),
            text[-4:],
            _moment(n),
            _moment(n) if n % 20 == 0 else None,
        )

    _copy(
        ApiKey,
        (
            "id", "public_id", "organization_id", "kind", "project_id", "service_account_id",
            "created_by_id", "name", "lookup", "secret_hmac", "last_four", "created_at",
            "revoked_at",
        ),
        map(row, range(1, p.keys + 1)),
    )  # fmt: skip


def _usage(p: Population) -> None:
    """The big organization's last 60 days, and one request of each other one."""

    def rows() -> Iterator[tuple[Any, ...]]:
        for n in range(1, p.big_usage + 1):
            key = 2 + n % (p.big_keys - 1)
            yield (1, 1, key, f"model-{n % 4}", n % 900 + 10, n % 300, n % 50, _ago(n, p.big_usage),
                   f"{n:024x}", n % 4_000)  # fmt: skip
        for n in range(2, p.organizations + 1):
            yield (n, n, None, "model-0", 20, 20, 0, _ago(n, p.organizations),
                   f"{n + p.big_usage:024x}", 12)  # fmt: skip

    _copy(
        UsageEvent,
        (
            "organization_id", "project_id", "api_key_id", "model", "prompt_tokens",
            "completion_tokens", "cached_tokens", "started_at", "request_id", "cost_micros",
        ),
        ((*row[:6], min(row[6], row[4]), *row[7:]) for row in rows()),
        endpoint="/v1/chat/completions",
        status=UsageEvent.Status.COMPLETED,
        source=UsageEvent.Source.GATEWAY,
        duration_ms=700,
        time_to_first_token_ms=80,
        replica="chat-1",
    )  # fmt: skip


def _audit_events(p: Population) -> None:
    """The database's own trigger chains them, as it does every event."""

    def rows() -> Iterator[tuple[Any, ...]]:
        for n in range(p.big_audit + p.organizations - 1):
            organization = 1 if n < p.big_audit else n - p.big_audit + 2
            at, object_id = _ago(n, p.big_audit + p.organizations), p.public_id("key", n)
            event = {"id": p.public_id("audit", n), "at": at.isoformat(), "object_id": object_id}
            yield event["id"], at, organization, organization, object_id, audit.canonical(event)

    _copy(
        AuditEvent,
        ("public_id", "at", "organization_id", "acting_user_id", "object_id", "content"),
        rows(),
        actor_type=AuditEvent.Actor.USER,
        action="api_key.created",
        object_type="api_key",
    )


_TABLES: dict[str, Callable[[Population], None]] = {
    "organizations": _organizations,
    "users": _users,
    "memberships": _memberships,
    "projects": _projects,
    "service accounts": _service_accounts,
    "API keys": _api_keys,
    "usage events": _usage,
    "audit events": _audit_events,
}
_NOW = datetime.now(UTC)


def _moment(number: int) -> datetime:
    """When thing ``number`` was made: a year's worth, the higher the later."""
    return datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=30 * number)


def _ago(number: int, of: int) -> datetime:
    return _NOW - timedelta(days=60) * (number / (of + 1))


# --- COPY ------------------------------------------------------------------------------------


def _copy(
    model: type[models.Model],
    varying: tuple[str, ...],
    rows: Iterable[tuple[Any, ...]],
    **same: Any,
) -> None:
    """``rows`` of the ``varying`` columns; the others are as in ``same`` or the model's default."""
    fields = {field.attname: field for field in model._meta.concrete_fields}
    rest = {
        name: same.get(name, _default(field))
        for name, field in fields.items()
        if name not in varying and not field.primary_key
    }
    assert set(same) <= set(rest) and set(varying) <= set(fields)
    names = [str(fields[name].column) for name in (*varying, *rest)]
    columns = ", ".join(map(connection.ops.quote_name, names))
    tail = "".join("\t" + _rendered(value) for value in rest.values()) + "\n"
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {model._meta.db_table} ({columns}) FROM STDIN") as copy,
    ):
        buffer: list[str] = []
        for row in rows:
            buffer.append("\t".join(map(_rendered, row)) + tail)
            if len(buffer) >= _BUFFER:
                copy.write("".join(buffer))
                buffer.clear()
        copy.write("".join(buffer))


def _default(field: models.Field[Any, Any]) -> Any:
    if getattr(field, "auto_now_add", False):
        return _NOW
    value = field.get_default()
    return json.dumps(value) if isinstance(field, models.JSONField) else value


def _rendered(value: Any) -> str:
    """As COPY's text format has it."""
    if value is None:
        return r"\N"
    if isinstance(value, bytes):
        return rf"\\x{value.hex()}"
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value).translate(_ESCAPES)


# --- Afterwards --------------------------------------------------------------------------------


def _settle() -> None:
    """What autovacuum and use would have brought about by then."""
    for model in (Organization, User, Membership, Project, ServiceAccount, ApiKey):
        table = model._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"  # noqa: S608
            )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")


def _remembered() -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database"
            " WHERE datname = current_database()"
        )
        return str(cursor.fetchone()[0] or "")


def _remember(text: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        name = connection.ops.quote_name(cursor.fetchone()[0])
        cursor.execute(f"COMMENT ON DATABASE {name} IS %s", [text])
