"""``manage.py check_ledger``: whether the ledger is sound and agrees with the usage."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.selectors import check_ledger


class Command(BaseCommand):
    help = "Check that every posting balances and every cost is posted once; fails if not."

    def handle(self, *args: Any, **options: Any) -> None:
        problems = check_ledger()
        if problems:
            raise CommandError("The ledger is not sound.\n" + "\n".join(problems))
        self.stdout.write("The ledger is sound.")
