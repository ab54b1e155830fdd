"""On whose behalf this code touches the database: the second wall around a tenant.

A scope says which rows may be seen: those of one organization, those that belong to
one user, the one key that a caller presented, all of them (staff, background work).
``tenants.managers`` holds the ORM to it and fails where there is none;
``tenants.postgres`` tells it to PostgreSQL, whose row policies hold raw SQL to it
too (docs/adr/0014-isolation-in-two-layers.md).

The first wall is the code's own ``filter(organization=…)``; both must be right for a
row to come out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import StrEnum


class Login(StrEnum):
    """The PostgreSQL role that acts. Each is a login of its own in an installation."""

    WEB = "sluice_web"  # pages, programs: sees what its scope names; owns nothing
    STAFF = "sluice_staff"  # staff admin, background work: every tenant; owns nothing
    OWNER = ""  # the owner of the tables: migrations and management commands


@dataclass(frozen=True, slots=True)
class Scope:
    """What is named here may be seen; a web scope that names nothing sees no tenant."""

    login: Login = Login.WEB
    organization: int | None = None
    user: int | None = None
    key_lookup: str = ""  # the lookup part of a key that somebody presented
    invitation: str = ""  # the digest of an invitation that somebody presented
    provider: str = ""  # slug or e-mail domain of the identity provider that somebody came by

    @property
    def sees_everything(self) -> bool:
        return self.login is not Login.WEB


NOBODY = Scope()
_current: ContextVar[Scope | None] = ContextVar("tenant_scope", default=None)
_of_process = NOBODY


def current() -> Scope:
    return _current.get() or _of_process


def set_process_scope(scope: Scope) -> None:
    """What holds where no ``with`` says more: a worker or a command calls this once."""
    global _of_process  # noqa: PLW0603 - one process has one nature
    _of_process = scope


@contextmanager
def entered(scope: Scope) -> Iterator[None]:
    token = _current.set(scope)
    try:
        yield
    finally:
        _current.reset(token)


def for_user(user: int | None) -> AbstractContextManager[None]:
    """Memberships of this user, their organizations, and nothing else."""
    return entered(Scope(user=user))


def for_organization(organization: int) -> AbstractContextManager[None]:
    """Rows of this organization; inside a staff scope all stay visible."""
    scope = current()
    return entered(scope if scope.sees_everything else replace(scope, organization=organization))


def for_staff() -> AbstractContextManager[None]:
    return entered(Scope(login=Login.STAFF))


def for_key(lookup: str) -> AbstractContextManager[None]:
    """The one key whose lookup part a caller presented."""
    return entered(Scope(key_lookup=lookup))


def for_invitation(digest: str, user: int | None) -> AbstractContextManager[None]:
    """The one invitation whose secret a caller presented, beside what the user sees."""
    return entered(Scope(user=user, invitation=digest))


def for_provider(name: str) -> AbstractContextManager[None]:
    """The identity provider of this slug or verified e-mail domain, before anybody logged in."""
    return entered(replace(current(), provider=name))
