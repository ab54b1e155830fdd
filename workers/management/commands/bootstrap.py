"""``manage.py bootstrap``: what an installation needs before its first request.

Default plans if there are none, a deployment of each pulled model that has none, and if
asked a staff user and the demo's prices. Run again it does only what is missing;
whatever staff edited, renamed or turned off stays as it is.
"""

from __future__ import annotations

import getpass
import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Collection
from typing import Any

from allauth.account.models import EmailAddress
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from billing.actions import add_price
from billing.models import Price
from inference.actions import create_deployment
from inference.selectors import get_undeployed_versions
from tenants.actions import create_staff_user, ensure_default_plans
from tenants.errors import InvalidInput
from tenants.models import Plan, User

# Micro-dollars a million tokens: input, cached input, output. In the range that
# providers ask for models of this size.
DEMO_PRICES = {
    "smollm2-135m-instruct": (20_000, 10_000, 40_000),
    "all-minilm-l6-v2": (10_000, 10_000, 0),
}
PASSWORD_VARIABLE = "SLUICE_STAFF_PASSWORD"  # noqa: S105 - a variable's name
MOST_PASSWORD_CHARACTERS = 4_096

Say = Callable[[str], object]


class Command(BaseCommand):
    help = "Make what an installation needs before its first request; repeatable."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--demo-prices",
            action="store_true",
            help="Price the two default models, unless they have a price.",
        )
        parser.add_argument(
            "--staff-email",
            default="",
            help="Make this staff superuser, if absent; the password comes from"
            f" {PASSWORD_VARIABLE} or standard input.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            ensure_plans(self.stdout.write)
            ensure_deployments(self.stdout.write)
            if options["demo_prices"]:
                ensure_demo_prices(self.stdout.write)
            if options["staff_email"]:
                ensure_staff(options["staff_email"], self.stdout.write)
        except InvalidInput as error:
            raise CommandError(error.message) from error


def ensure_plans(say: Say) -> None:
    plans = ensure_default_plans(acting_user=None)
    names = ", ".join(f"{plan}{' (default)' if plan.is_default else ''}" for plan in plans)
    say(f"Plans: made {names}." if plans else "Plans: left as they are.")
    if not Plan.objects.filter(is_default=True).exists():
        say("No plan is the default one: nobody can make an organization until staff set one.")


def ensure_deployments(say: Say, only: Collection[str] | None = None) -> None:
    """Of every pulled model that has none, or of those named ``only``."""
    versions = [
        version
        for version in get_undeployed_versions()
        if only is None or version.model.name in only
    ]
    for version in versions:
        try:
            deployment = create_deployment(version, acting_user=None)
        except InvalidInput as error:  # a name is taken; the other models are not less wanted
            say(f"Deployments: none made of {version}: {error.message}")
        else:
            say(f"Deployments: made {deployment} of {version}.")
    if not versions:
        say("Deployments: every pulled model that is enabled has one.")


def ensure_demo_prices(say: Say) -> None:
    missing = [name for name in DEMO_PRICES if not Price.objects.filter(model=name).exists()]
    for model in missing:
        per_input, per_cached, per_output = DEMO_PRICES[model]
        add_price(
            model,
            input_micros_per_million=per_input,
            cached_input_micros_per_million=per_cached,
            output_micros_per_million=per_output,
            acting_user=None,
        )
    say(f"Prices: made for {', '.join(missing)}." if missing else "Prices: left as they are.")


def ensure_staff(email: str, say: Say) -> None:
    """A user of this address that is no staff is a customer, whom a script must not promote."""
    user = User.objects.filter(email=email.strip().lower()).first()
    if user is None:
        with transaction.atomic():
            user = create_staff_user(email, read_password(), acting_user=None)
            EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
        say(f"Staff: made {user}.")
    elif user.is_staff:
        say(f"Staff: {user} is left as they are.")
    else:
        raise CommandError(f"{user} exists and is no staff; the staff admin can change that.")


def read_password() -> str:
    """From the environment, else standard input; an argument would show in lists of processes."""
    password = os.environ.get(PASSWORD_VARIABLE, "")
    if not password and sys.stdin.isatty():
        password = getpass.getpass("Password of the staff user: ")
    elif not password:
        password = _line_of_stdin()
    if not password:
        raise CommandError(f"No password: set {PASSWORD_VARIABLE} or write it to standard input.")
    return password


def _line_of_stdin() -> str:
    try:
        line = sys.stdin.readline(MOST_PASSWORD_CHARACTERS + 2).rstrip("\r\n")
    except UnicodeDecodeError:
        raise CommandError("The password on standard input is not UTF-8.") from None
    if len(line) > MOST_PASSWORD_CHARACTERS:
        raise CommandError(f"The password has more than {MOST_PASSWORD_CHARACTERS} characters.")
    return line
