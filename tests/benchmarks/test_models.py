"""Another model than SmolLM2: how it is told, and one of random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks.random_model import SHAPE, make
from benchmarks.served import Served
from inference.store.pull import Pull, pull_model


def test_a_model_of_random_weights_is_taken_by_the_store(tmp_path: Path) -> None:
    like = tmp_path / "like"
    like.mkdir()
    (like / "config.json").write_text('{"vocab_size": 49152, "hidden_size": 576}')
    (like / "tokenizer.json").write_text("{}")
    make(tmp_path / "made", like, SHAPE)
    wanted = Pull((tmp_path / "made").as_uri(), model="made", version="1")
    folder = pull_model(wanted, tmp_path / "store", lambda line: None).folder
    config = json.loads((folder / "config.json").read_text())
    assert (config["vocab_size"], config["hidden_size"]) == (49152, 4096)
    assert (folder / "model.safetensors").stat().st_size < 200


def test_waves_and_model_become_sizes() -> None:
    words = (
        "engine",
        "--model",
        "hf://a/B.1",
        "--waves",
        "1x3,256x2",
        "--tokens",
        "9",
        "--no-peer",
    )
    sizes = program._sizes(program._parse([*words, "--engine-options", '{"load_format": "dummy"}']))
    assert sizes.engine_waves == ((1, 3), (256, 2)) and sizes.engine_tokens == 9
    assert not sizes.gateway_has_peer
    assert sizes.served.deployment == "b-1"
    assert sizes.served.environment() == {
        "CHAT_MODEL": "hf://a/B.1",
        "CHAT_DTYPE": "",
        "CHAT_OPTIONS": '{"load_format": "dummy"}',
        "CHAT_RUNNING": "256",
    }
    assert Served().environment() == {}


@pytest.mark.parametrize("raw", ["0x3", "8", "8x", "x3", "ax1"])
def test_waves_that_are_none_are_refused(raw: str) -> None:
    with pytest.raises(SystemExit):
        program._parse(["engine", "--waves", raw])
