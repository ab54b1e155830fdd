"""The one direction of imports (docs/architecture.md), held by import-linter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tenants", "billing", "inference", "api", "portal", "workers", "config")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of our pyproject.toml over the packages in ``folder``."""
    return subprocess.run(
        [
            Path(sys.executable).with_name("lint-imports"),
            "--no-cache",
            "--config",
            ROOT / "pyproject.toml",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_imports_keep_the_contract() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("tenants", "import billing"),
        ("billing", "import inference"),
        ("inference", "import api"),
        ("inference", "import workers"),
        ("portal", "import api"),
        ("api", "import config"),
        ("workers", "import deploy"),
        ("api", "import vllm"),
    ],
)
def test_contract_refuses_what_it_should(tmp_path: Path, module: str, line: str) -> None:
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    assert lint_imports(tmp_path).returncode == 0
    (tmp_path / module / "__init__.py").write_text(f"{line}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1
    assert "BROKEN" in result.stdout
