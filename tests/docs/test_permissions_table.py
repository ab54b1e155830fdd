"""The page of the room tells exactly what each role may."""

from __future__ import annotations

from pathlib import Path

from tenants import permissions
from tenants.models import ProjectRole, Role

PAGE = Path(__file__).parents[2] / "docs" / "rooms" / "tenants.md"


def rows() -> list[list[str]]:
    """The table's cells, its head first."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    start = next(n for n, line in enumerate(lines) if line.startswith("| permission |"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:]]
    return [cells[0], *(row for row in cells[2:] if row[0].startswith("`") and "." in row[0])]


def test_the_table_is_what_the_code_allows() -> None:
    head, *table = rows()
    roles = [*Role.values, *(f"project {role}" for role in ProjectRole.values)]
    of_role = {
        **permissions.OF_ROLE,
        **{f"project {role}": given for role, given in permissions.OF_PROJECT_ROLE.items()},
    }

    assert head == ["permission", *roles]
    told = {row[0].strip("`"): row[1:] for row in table if len(row) == len(head)}
    assert told == {
        name: ["✓" if name in of_role[role] else "" for role in roles] for name in permissions.ALL
    }
