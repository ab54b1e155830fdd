"""The pages' examples, as they stand there, against the real engine."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.clients.conftest import Program, output_of
from tests.harness.platform import Platform
from tests.harness.services import CHECKOUT

EXAMPLES = (CHECKOUT / "docs" / "guide.md").read_text()
API = (CHECKOUT / "docs" / "api.md").read_text()
LANGUAGES = ("python", "javascript", "sh")
# Heading, what its examples print, and each of them by its language.
SECTIONS = {
    section.partition("\n")[0]: (
        re.compile(printed[1], re.DOTALL),
        {
            language: "".join(re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL))
            for language in LANGUAGES
        },
    )
    for section in EXAMPLES.split("\n## ")[1:]
    if (printed := re.search(r"<!-- prints: (.*?) -->", section))
}
# Their programs end without closing what they opened, as short ones do.
unclosed = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


def test_every_capability_has_all_three() -> None:
    assert len(SECTIONS) == 12
    assert all(all(examples.values()) for _, examples in SECTIONS.values())
    assert (
        sum(len(examples) for _, examples in SECTIONS.values())
        == sum(
            len(re.findall(rf"^```{language}$", EXAMPLES, re.MULTILINE)) for language in LANGUAGES
        )
        - 1
    ), "one more says how to begin"


@pytest.fixture
def exported(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, environment[name])


@unclosed
@pytest.mark.parametrize("section", SECTIONS)
def test_python(exported: None, section: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed, examples = SECTIONS[section]
    run_python(examples["python"])
    assert printed.search(capsys.readouterr().out)


@pytest.mark.parametrize("section", SECTIONS)
def test_javascript(javascript: Program, section: str) -> None:
    printed, examples = SECTIONS[section]
    shown = javascript(examples["javascript"])
    assert printed.search(shown), shown


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")
@pytest.mark.parametrize("section", SECTIONS)
def test_curl(environment: dict[str, str], section: str, tmp_path: Path) -> None:
    printed, examples = SECTIONS[section]
    shown = output_of(["sh", "-eu"], environment, examples["sh"], tmp_path)
    assert printed.search(shown), shown


@unclosed
@pytest.mark.parametrize("number", range(API.count("```python")))
def test_the_api_guides_python(
    live: Platform, exported: None, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run_python(re.findall(r"```python\n(.*?)```", API, re.DOTALL)[number])
    assert capsys.readouterr().out.strip()


def run_python(text: str) -> None:
    """In this process: importing the clients anew for each example would take its seconds."""
    exec(compile(text, "example", "exec", dont_inherit=True), {"__name__": "__main__"})  # noqa: S102
