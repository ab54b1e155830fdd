"""Real vLLM scores pairs of texts as transformers does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inference.store.facts import is_cross_encoder, read_facts
from tests.harness.services import CHECKOUT


@pytest.mark.timeout(400)
def test_a_cross_encoder_scores_as_transformers_does(tmp_path: Path) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"}
    environment["VLLM_CPU_KVCACHE_SPACE"] = "1"
    process = subprocess.run(
        [sys.executable, "-m", "tests.workers.cross_encoder", str(tmp_path)],
        cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=380, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-3000:]
    answer = json.loads(process.stdout.splitlines()[-1])
    assert answer["found"] == pytest.approx(answer["expected"], abs=2e-3)
    # It matters that the model is told where the second text begins.
    assert answer["found"] != pytest.approx(answer["untold"], abs=2e-3)
    assert len({round(score, 2) for score in answer["found"]}) > 1
    assert is_cross_encoder(tmp_path)
    assert read_facts(tmp_path).kind == "embedding"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "score"}}, True),
        ({"architectures": ["BertForSequenceClassification"], "num_labels": 1}, True),
        ({"architectures": ["BertForSequenceClassification"]}, False),
        ({"architectures": ["BertModel"], "id2label": {"0": "score"}}, False),
        ({}, False),
    ],
)
def test_one_label_for_two_texts_is_a_score(
    tmp_path: Path, config: dict[str, Any], expected: bool
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert is_cross_encoder(tmp_path) is expected
