"""What the system must bring is asked for before anything is installed, and named."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local import libraries

ROOT = Path(__file__).resolve().parent.parent.parent
CALL = "-m deploy.local.libraries"


@pytest.fixture
def without_numa(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(libraries.NUMA, soname="libsluice-nobody-has-this.so.1")
    monkeypatch.setattr(libraries, "NUMA", absent)


def test_a_missing_library_is_named_with_its_packages(
    without_numa: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ENGINE", raising=False)
    assert libraries.main() == 1
    said = capsys.readouterr().err
    for word in ("libsluice-nobody-has-this.so.1", "libnuma1", "numactl-libs", "ENGINE=simulated"):
        assert word in said


def test_the_simulated_engine_needs_none(
    without_numa: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENGINE", "simulated")
    assert libraries.main() == 0
    assert capsys.readouterr().err == ""


def test_a_library_that_is_here_is_found() -> None:
    assert libraries.is_here(replace(libraries.NUMA, soname="libc.so.6"))


def test_make_asks_before_it_installs_and_before_it_starts() -> None:
    makefile = (ROOT / "Makefile").read_text()
    install = makefile.split("\n$(STAMP): ")[1]
    assert install.index(CALL) < install.index("$(PIP)")
    up = re.search(r"(?m)^up: .*\n((?:\t.*\n)+)", makefile)
    assert up
    assert up[1].index(CALL) < up[1].index("deploy.local up")


def test_readme_and_images_have_it() -> None:
    for name in ("README.md", "Dockerfile"):
        assert libraries.NUMA.debian in (ROOT / name).read_text(), name
