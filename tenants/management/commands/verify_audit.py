"""``manage.py verify_audit``: whether the audit trail is whole, here or in an exported file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants import audit_chain, audit_rows, scope
from tenants.audit_chain import ChainCheck, Finding, Head
from tenants.models import Organization

PLATFORM = "platform"
# A table that was rewritten has as many findings as rows.
MOST_SHOWN = 20


class Command(BaseCommand):
    help = (
        "Check the audit chains: exit 0 if every row is there as it was written, 1 with the rows"
        " named if not. Prints each chain's head; keep them elsewhere and give them to a later"
        " run, because whoever can rewrite the whole table can rewrite its chain as well."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--organization", metavar="org_…", help=f"Or “{PLATFORM}”.")
        parser.add_argument("--file", type=Path, help="A JSON-lines export, checked offline.")
        parser.add_argument("--head", metavar="N:hash", help="The one chain's head from earlier.")
        parser.add_argument("--heads", type=Path, help="The output of an earlier run.")

    def handle(self, *args: Any, **options: Any) -> None:
        is_one = bool(options["organization"] or options["file"])
        if options["head"] and not is_one:
            raise CommandError("--head belongs to one chain: name --organization or --file.")
        kept = [_parsed(options["head"])] if options["head"] else []
        if options["file"]:
            faults = self._verify_file(options["file"], kept)
        else:
            faults = self._verify_table(options["organization"], kept, options["heads"])
        if faults:
            raise CommandError(f"The audit trail is not whole: {faults} findings.")
        self.stdout.write(self.style.SUCCESS("The audit trail is whole."))

    def _verify_file(self, path: Path, kept: list[Head]) -> int:
        check = ChainCheck(kept=kept)
        try:
            with path.open(encoding="utf-8") as file:
                faults = self._tell(path.name, _file_findings(file, check))
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{path} cannot be read: {error}") from error
        self.stdout.write(f"{path.name} {check.last}")
        return faults

    def _verify_table(self, name: str | None, kept: list[Head], heads: Path | None) -> int:
        noted = _noted_heads(heads) if heads else {}
        with scope.for_staff():
            key = _key_of(name) if name else None
            chains = [audit_rows.read_chain(key)] if key is not None else audit_rows.read_chains()
            faults = 0
            for chain in chains:
                title = name or _name_of(chain.key)
                known = kept + [head for head in [noted.pop(title, None)] if head]
                walk = audit_rows.ChainVerification(chain, known)
                faults += self._tell(title, walk.findings())
                if walk.check.links:
                    self.stdout.write(f"{title} {walk.check.last}")
            for chain_key, finding in audit_rows.unchained(key):
                faults += self._tell(_name_of(chain_key), [finding])
        return faults + (0 if name else self._tell_gone(noted))

    def _tell_gone(self, noted: dict[str, Head]) -> int:
        for title, head in noted.items():
            self.stderr.write(f"{title}: the chain is gone; its head was {head.number}")
        return len(noted)

    def _tell(self, title: str, findings: Iterable[Finding]) -> int:
        found = iter(findings)
        told = 0
        for finding in islice(found, MOST_SHOWN):
            self.stderr.write(f"{title} {finding}")
            told += 1
        more = sum(1 for _ in found)
        if more:
            self.stderr.write(f"{title}: {more} more findings")
        return told + more


def _file_findings(file: TextIO, check: ChainCheck) -> Iterator[Finding]:
    number = 0
    while line := file.readline(audit_chain.LONGEST_LINE):
        number += 1
        if not line.strip():
            continue
        try:
            link = audit_chain.from_line(line)
        except (ValueError, RecursionError) as error:
            raise CommandError(f"Line {number} is not of an audit export: {error}") from error
        yield from check.take(link)
    yield from check.finish()


def _noted_heads(path: Path) -> dict[str, Head]:
    """Lines of an earlier run that name a chain and its head; other lines are its words."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error
    pairs = (line.split() for line in lines)
    return {pair[0]: _parsed(pair[1]) for pair in pairs if len(pair) == 2 and ":" in pair[1]}


def _parsed(text: str) -> Head:
    try:
        return Head.parse(text)
    except ValueError as error:
        raise CommandError(str(error)) from error


def _key_of(name: str) -> int:
    if name == PLATFORM:
        return audit_rows.PLATFORM
    organization = Organization.objects.filter(public_id=name).only("pk").first()
    if organization is None:
        raise CommandError(f"There is no organization {name}.")
    return organization.pk


def _name_of(key: int) -> str:
    if key == audit_rows.PLATFORM:
        return PLATFORM
    found = Organization.objects.filter(pk=key).values_list("public_id", flat=True).first()
    return found or f"organization-{key}"
