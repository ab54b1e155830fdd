"""``manage.py create_demo``: something to try at once, and ``demo.env`` to try it with.

Makes, once: what ``bootstrap`` makes for the default models, with their prices; two
organizations with an owner, a key and an admin key each; a staff user. Run again it repairs: whatever
``demo.env`` says that no longer works (a fresh database, a revoked key, a changed
password, a lost file) is made anew, and the rest is left as people changed it.
"""

from __future__ import annotations

import os
import shlex
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from inference.actions import notify_registry_changed
from inference.models import Deployment, ModelVersion
from tenants import keys
from tenants.actions import create_api_key, create_organization, create_project, revoke_api_key
from tenants.authentication import get_principal
from tenants.identifiers import random_text
from tenants.models import ApiKey, Membership, Organization, Project, Role, User
from workers.management.commands.bootstrap import (
    DEMO_PRICES,
    ensure_demo_prices,
    ensure_deployments,
    ensure_plans,
)

KEY_NAME = "Demo key"
PASSWORD_LENGTH = 24
OWNER_EMAIL = "owner@demo.localhost"
OTHER_EMAIL = "owner@globex.localhost"
STAFF_EMAIL = "staff@demo.localhost"


class Command(BaseCommand):
    help = "Make or repair the demo organizations, and write demo.env."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--model", help="Deploy this pulled model in place of the two default ones, unpriced."
        )
        parser.add_argument(
            "--running", type=int, help="Sequences that its replicas' engines run at once."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.IS_PRODUCTION:
            raise CommandError("A demo with a superuser does not belong in production.")
        path = Path(settings.STATE_DIR) / "demo.env"
        known = read_exports(path)
        served = [options["model"]] if options["model"] else list(DEMO_PRICES)
        check_pulled(served)
        ensure_plans(self.stdout.write)
        # Not of every pulled model: `make up` has replicas of these only.
        ensure_deployments(self.stdout.write, only=served)
        if options["model"]:
            ensure_running(options["model"], options["running"])
        else:
            ensure_demo_prices(self.stdout.write)
        owner, owner_password = ensure_user(OWNER_EMAIL, known.get("SLUICE_OWNER_PASSWORD"))
        _, staff_password = ensure_user(
            STAFF_EMAIL, known.get("SLUICE_STAFF_PASSWORD"), is_staff=True
        )
        other, _ = ensure_user(OTHER_EMAIL, None, keeps_password=True)
        key = ensure_key(ensure_project(owner, "Acme"), owner, known.get("OPENAI_API_KEY"))
        other_key = ensure_key(
            ensure_project(other, "Globex"), other, known.get("SLUICE_OTHER_API_KEY")
        )
        admin_key, other_admin_key = (
            ensure_admin_key(user, known.get(name))
            for user, name in ((owner, "SLUICE_ADMIN_KEY"), (other, "SLUICE_OTHER_ADMIN_KEY"))
        )
        values = {
            "SLUICE_URL": settings.SLUICE_URL,
            "OPENAI_BASE_URL": f"{settings.SLUICE_URL.rstrip('/')}/v1",
            "OPENAI_API_KEY": key,
            "SLUICE_OWNER_EMAIL": OWNER_EMAIL,
            "SLUICE_OWNER_PASSWORD": owner_password,
            "SLUICE_STAFF_EMAIL": STAFF_EMAIL,
            "SLUICE_STAFF_PASSWORD": staff_password,
            "SLUICE_OTHER_API_KEY": other_key,
            "SLUICE_ADMIN_KEY": admin_key,
            "SLUICE_OTHER_ADMIN_KEY": other_admin_key,
        }
        write_exports(path, values)
        renewed = [
            name
            for name, value in values.items()
            if name.endswith(("_KEY", "_PASSWORD")) and known.get(name) not in (None, value)
        ]
        self.stdout.write(f"demo.env is {'as it was' if values == known else 'written'}.")
        if renewed:
            self.stdout.write(f"Renewed, because the old ones did not work: {', '.join(renewed)}")


def check_pulled(models: Iterable[str]) -> None:
    for name in models:
        if not ModelVersion.objects.filter(model__name=name).exclude(pulled_at=None).exists():
            raise CommandError(f"{name} is not in the store: run manage.py pull_model --default.")


def ensure_running(model: str, running: int | None) -> None:
    """Of the model's deployments that replicas serve here; None leaves them as they are."""
    if running is not None:
        Deployment.objects.filter(version__model__name=model).update(max_running_requests=running)
        notify_registry_changed()


# --- demo.env -------------------------------------------------------------------------------


def read_exports(path: Path) -> dict[str, str]:
    """The ``export NAME=value`` lines of a shell file; empty if it is not there."""
    if not path.is_file():
        return {}
    values = {}
    for line in path.read_text().splitlines():
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            values[name] = "".join(shlex.split(value))
    return values


def write_exports(path: Path, values: dict[str, str]) -> None:
    """Replace the file at once; only its owner can read it at any moment."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in values.items()]
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write("# Written by `make up`. For a shell:  . demo.env\n")
        file.writelines(lines)
    os.replace(scratch, path)


# --- People and keys -----------------------------------------------------------------------------


@transaction.atomic
def ensure_user(
    email: str, password: str | None, *, is_staff: bool = False, keeps_password: bool = False
) -> tuple[User, str]:
    """The user and a password that logs in: ``password`` if it does, else a new one.

    ``keeps_password`` leaves an existing user's password alone: nobody is told it.
    """
    user = User.objects.select_for_update().filter(email=email).first()
    if user is None:
        password = password or random_text(PASSWORD_LENGTH)
        user = User.objects.create_user(
            email, password, name=email.split("@")[0].title(), is_staff=is_staff
        )
        user.is_superuser = is_staff
        user.save(update_fields=["is_superuser"])
        EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
    elif not keeps_password and not (password and user.check_password(password)):
        password = random_text(PASSWORD_LENGTH)
        user.set_password(password)
        user.save(update_fields=["password"])
    return user, password or ""


def ensure_project(owner: User, name: str) -> Project:
    """A live project of the organization that ``owner`` owns, both made if missing."""
    membership = Membership.objects.filter(user=owner, role=Role.OWNER).order_by("pk").first()
    organization: Organization = (
        membership.organization if membership else create_organization(name, acting_user=owner)
    )
    project = organization.projects.filter(archived_at=None).order_by("pk").first()
    return project or create_project(
        organization, f"Demo {timezone.now():%Y-%m-%d %H:%M:%S}", acting_user=owner
    )


def ensure_key(project: Project, owner: User, text: str | None) -> str:
    """The text of a key of this organization that works: ``text`` if it does, else a new one."""
    organization = project.organization
    if text and works_for(text, organization, ApiKey.Kind.PROJECT):
        return text
    revoke_stale(organization, ApiKey.Kind.PROJECT, owner)
    return create_api_key(project, KEY_NAME, acting_user=owner)[1]


def ensure_admin_key(owner: User, text: str | None) -> str:
    """The same of an admin key, of the organization that ``owner`` owns."""
    organization = (
        Membership.objects.filter(user=owner, role=Role.OWNER).order_by("pk")[0].organization
    )
    if text and works_for(text, organization, ApiKey.Kind.ADMIN):
        return text
    revoke_stale(organization, ApiKey.Kind.ADMIN, owner)
    return create_api_key(organization, KEY_NAME, acting_user=owner)[1]


def revoke_stale(organization: Organization, kind: str, owner: User) -> None:
    """Earlier demo keys, whose text nobody has any more."""
    stale = ApiKey.objects.filter(
        organization=organization, kind=kind, name=KEY_NAME, revoked_at=None
    )
    for key in stale:
        revoke_api_key(key, acting_user=owner)


def works_for(text: str, organization: Organization, kind: str) -> bool:
    lookup = keys.lookup_of(text)
    if lookup is None:
        return False
    principal = get_principal(lookup, keys.digest(text, settings.API_KEY_PEPPER))
    return principal is not None and (principal.organization, principal.kind) == (
        organization.pk,
        kind,
    )
