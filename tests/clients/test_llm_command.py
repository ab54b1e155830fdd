"""The ``llm`` command line, told of the platform by its own ``extra-openai-models.yaml``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.clients.conftest import output_of
from tests.harness.platform import EMBEDDING_MODEL, Platform, wait_for

LLM = str(Path(sys.executable).parent / "llm")
MODELS = """
- model_id: sluice
  model_name: smollm2-135m-instruct
  api_base: {base}
  api_key_name: openai
  supports_tools: true
  supports_schema: true
- model_id: sluice-responses
  model_name: smollm2-135m-instruct
  api_base: {base}
  api_key_name: openai
  responses: true
"""
TOOL = '''
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"In {city} it is sunny."
'''


@pytest.fixture(scope="module")
def folder(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llm")
    text = MODELS.format(base=environment["OPENAI_BASE_URL"])
    (folder / "extra-openai-models.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def told(environment: dict[str, str], folder: Path) -> dict[str, str]:
    return {**environment, "LLM_USER_PATH": str(folder)}


def test_it_streams_an_answer(told: dict[str, str]) -> None:
    for model, more in (("sluice", ["-o", "max_tokens", "24"]), ("sluice-responses", [])):
        command = [
            LLM,
            "-m",
            model,
            "-o",
            "temperature",
            "0",
            *more,
            "What is the capital of France?",
        ]
        assert "Paris" in output_of(command, told)


def test_a_schema_holds(told: dict[str, str]) -> None:
    schema = ["--schema", "name, age int", "-o", "temperature", "0", "-o", "max_tokens", "64"]
    text = output_of([LLM, "-m", "sluice", *schema, "A dog called Rex, three years old"], told)
    shown = json.loads(text)
    assert set(shown) == {"name", "age"} and isinstance(shown["age"], int)


def test_a_tool_is_called(live: Platform, told: dict[str, str]) -> None:
    """It lets the model choose, and this one calls something only if it is led there: by a line
    to copy, and by a bias against the fence that it likes to begin code with."""
    with live.http() as client:
        body = {"model": "smollm2-135m-instruct", "add_special_tokens": False}
        fences = [
            client.post("/v1/tokenize", json={**body, "prompt": prompt}).json()["tokens"][-1]
            for prompt in ("```", " ```")
        ]
    bias = json.dumps(dict.fromkeys(map(str, fences), -100))
    line = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    options = ["-o", "temperature", "0", "-o", "max_tokens", "48", "-o", "logit_bias", bias]
    command = [LLM, "-m", "sluice", *options, "--functions", TOOL, "--tools-debug"]
    result = output_of([*command, f"Copy this line:\n{line}"], told, with_errors=True)
    assert "Tool call: get_weather({'city': 'Paris'})" in result
    assert "In Paris it is sunny." in result


def test_embeddings_by_a_name_that_it_knows(live: Platform, told: dict[str, str]) -> None:
    """It knows OpenAI's embedding models only: an alias of the platform serves one of them."""
    live.manage(
        "shell", "-v", "0", "-c",
        "from inference.models import Model, ModelAlias\n"
        "ModelAlias.objects.get_or_create(name='text-embedding-3-small', defaults="
        f"{{'model': Model.objects.get(name='{EMBEDDING_MODEL}')}})\n"
        "from inference.actions import notify_registry_changed; notify_registry_changed()",
    )  # fmt: skip
    with live.http() as client:
        wait_for(lambda: client.get("/v1/models/text-embedding-3-small").status_code == 200, 40)
    vector = json.loads(output_of([LLM, "embed", "-m", "3-small", "-c", "A cat sat."], told))
    assert len(vector) == 384 and abs(sum(value * value for value in vector) - 1) < 1e-3


def test_errors_are_told(told: dict[str, str]) -> None:
    asked = [LLM, "-m", "sluice", "Hi"]
    assert "Incorrect API key" in output_of([*asked, "--key", "sk-proj-wrong"], told, status=1)
    refused = output_of([*asked, "-o", "max_tokens", "9999"], told, status=1)
    assert "maximum context length" in refused
