"""The store: whole or absent, fetched once, verified, one pull at a time."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.errors import BadSource, ChecksumMismatch, StoreBusy, VersionTaken
from inference.store.facts import read_facts
from inference.store.folder_lock import locked
from inference.store.manifest import read_manifest
from inference.store.pull import Pull, Pulled, pull_model
from tests.inference.tiny_models import write_tiny_gguf, write_tiny_model

ROOT = Path(__file__).resolve().parents[2]
PULL = """
import sys
from pathlib import Path
from inference.store.pull import Pull, pull_model
pulled = pull_model(Pull(sys.argv[1], "tiny", "1"), Path(sys.argv[2]),
                    lambda line: print(line, flush=True))
print("fetched" if pulled.fetched else "present", flush=True)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "source")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def pull(source: Path, store: Path, lines: list[str] | None = None, **options: object) -> Pulled:
    wanted = Pull(uri=source.as_uri(), model="tiny", version="1", **options)  # type: ignore[arg-type]
    return pull_model(wanted, store, (lines if lines is not None else []).append)


def start_pull(source: Path, store: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", PULL, source.as_uri(), str(store)]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_manifest_has_the_hashes_that_the_files_have(source: Path, store: Path) -> None:
    pulled = pull(source, store)
    manifest = read_manifest(store / "tiny" / "1")
    assert manifest is not None and pulled.fetched and pulled.path == "tiny/1"
    assert manifest.source == source.as_uri()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        content = (source / name).read_bytes()
        assert (pulled.folder / name).read_bytes() == content
        assert manifest.files[name].sha256 == hashlib.sha256(content).hexdigest()
    lines = "".join(f"{manifest.files[name].sha256}  {name}\n" for name in sorted(manifest.files))
    assert manifest.sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert [(licence.stated_by, licence.name) for licence in manifest.licences] == [
        ("model card", "cc0-1.0")
    ]


def test_second_pull_reads_no_source(source: Path, store: Path) -> None:
    first = pull(source, store)
    (source / "config.json").write_text("{}")
    second = pull(source, store)
    assert not second.fetched and second.manifest == first.manifest
    assert (second.folder / "config.json").read_text() != "{}"


def test_replace_pulls_over_what_is_there(source: Path, store: Path) -> None:
    first = pull(source, store)
    (source / "tokenizer_config.json").write_text("{}")
    second = pull(source, store, replace=True)
    assert second.fetched and second.manifest.sha256 != first.manifest.sha256
    assert (second.folder / "tokenizer_config.json").read_text() == "{}"
    assert not list((store / ".staging").iterdir())


def test_another_source_does_not_take_a_version_that_is_taken(source: Path, store: Path) -> None:
    before = pull(source, store).manifest
    other = write_tiny_model(source.parent / "other")
    with pytest.raises(VersionTaken):
        pull(other, store)
    assert read_manifest(store / "tiny" / "1") == before


def test_a_file_cut_short_is_pulled_again(source: Path, store: Path) -> None:
    folder = pull(source, store).folder
    whole = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(whole[:10])
    assert pull(source, store).fetched
    assert (folder / "tokenizer.json").read_bytes() == whole


def test_verify_finds_a_flipped_byte_that_sizes_do_not_show(source: Path, store: Path) -> None:
    folder = pull(source, store).folder
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert not pull(source, store).fetched  # the control: sizes match
    with pytest.raises(ChecksumMismatch, match=r"model\.safetensors"):
        pull(source, store, verify=True)


def test_a_pinned_source_of_another_digest_never_arrives(source: Path, store: Path) -> None:
    with pytest.raises(ChecksumMismatch):
        pull(source, store, sha256="0" * 64)
    assert not (store / "tiny").exists()
    right = pull(source, store).manifest.source_sha256
    assert not pull(source, store, sha256=right).fetched


def test_pickles_and_code_stay_out(source: Path, store: Path) -> None:
    for name in ("pytorch_model.bin", "modeling.py", ".hidden.json", "model.onnx"):
        (source / name).write_bytes(b"x")
    names = {path.name for path in pull(source, store).folder.iterdir()}
    assert not names & {"pytorch_model.bin", "modeling.py", ".hidden.json", "model.onnx"}


def test_a_model_of_pickles_alone_is_refused(source: Path, store: Path) -> None:
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(BadSource, match="run code"):
        pull(source, store)
    assert not (store / "tiny").exists()


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_half_a_model_is_refused(source: Path, store: Path, missing: str) -> None:
    (source / missing).unlink()
    with pytest.raises(BadSource, match=missing):
        pull(source, store)
    assert not (store / "tiny").exists()


@pytest.mark.parametrize(
    ("model", "version"),
    [("../x", "1"), ("a/b", "1"), ("", "1"), ("ok", "../1"), ("ok", ".staging"), ("ok", "a/b")],
)
def test_names_that_lead_out_of_the_store_are_refused(
    source: Path, store: Path, model: str, version: str
) -> None:
    with pytest.raises(BadSource):
        pull_model(Pull(source.as_uri(), model, version), store, print)
    assert not store.exists()


@pytest.mark.parametrize(
    "uri",
    ["", "tiny", "ftp://host/x", "file://host/x", "file:relative", "file:///no/such/place",
     "hf://only-owner", "s3://bucket", "s3:///prefix", "pypi://name/inside",
     "pypi://name==1.0", "pypi://--index-url=x==1/y"],
)  # fmt: skip
def test_malformed_addresses_are_refused(store: Path, uri: str) -> None:
    with pytest.raises(BadSource):
        pull_model(Pull(uri, "tiny", "1"), store, print)
    assert not (store / "tiny").exists()


def test_leftovers_of_another_source_do_not_mix_in(source: Path, store: Path) -> None:
    stale = store / ".staging" / "tiny@1" / "source"
    stale.mkdir(parents=True)
    (stale.parent / "uri").write_text(source.as_uri())
    (stale / "gone_from_the_source.json").write_text("{}")
    (stale / "config.json.part").write_text("{")
    assert set(pull(source, store).manifest.files) == {
        "README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


def test_a_second_process_waits_and_then_finds_the_model(source: Path, store: Path) -> None:
    with locked(store / ".locks" / "tiny@1.lock", timeout_s=1, report=print):
        waiting = start_pull(source, store)
        assert waiting.stdout is not None
        assert "waiting for another pull" in waiting.stdout.readline()
        assert waiting.poll() is None and not (store / "tiny").exists()
    output, _ = waiting.communicate(timeout=30)
    assert output.splitlines()[-1] == "fetched"


def test_of_two_pulls_at_once_one_fetches(source: Path, store: Path) -> None:
    outputs = [process.communicate(timeout=60)[0] for process in
               [start_pull(source, store), start_pull(source, store)]]  # fmt: skip
    assert sorted(output.splitlines()[-1] for output in outputs) == ["fetched", "present"]


def test_waiting_for_the_lock_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with (
        locked(path, timeout_s=1, report=print),
        pytest.raises(StoreBusy),
        locked(path, timeout_s=0.3, report=print),
    ):
        pass


def test_facts_are_read_off_the_folder(source: Path, tmp_path: Path) -> None:
    chat = read_facts(source)
    assert (chat.kind, chat.dtype, chat.max_context_tokens) == ("chat", "float32", 128)
    assert chat.embedding_dimensions is None
    encoder = write_tiny_model(tmp_path / "encoder", kind="embedding")
    (encoder / "sentence_bert_config.json").write_text('{"max_seq_length": 64}')
    facts = read_facts(encoder)
    assert (facts.kind, facts.max_context_tokens) == ("embedding", 64)
    assert facts.embedding_dimensions == 8


@pytest.mark.timeout(180)
def test_gguf_killed_while_converting_is_converted_by_the_next_pull(
    tmp_path: Path, store: Path
) -> None:
    pytest.importorskip("gguf")
    pytest.importorskip("transformers")
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    with start_pull(source, store) as killed:
        assert killed.stdout is not None
        while "loading torch" not in killed.stdout.readline():
            assert killed.poll() is None
        killed.kill()
    assert not (store / "tiny").exists()
    # The converter dies with its parent, or the lock would be held on.
    began = time.monotonic()
    with locked(store / ".locks" / "tiny@1.lock", timeout_s=5, report=print):
        assert time.monotonic() - began < 5
    pulled = pull(source, store)
    manifest = pulled.manifest
    assert pulled.fetched and manifest.conversion is not None
    assert manifest.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert ("weights", "cc0-1.0") in [(one.stated_by, one.name) for one in manifest.licences]
    assert read_facts(pulled.folder).dtype == "bfloat16"
    assert not pull(source, store).fetched
    _check_digits_are_split_first(pulled.folder)


def _check_digits_are_split_first(folder: Path) -> None:
    """Spaces before a number stay together, as in llama.cpp's smollm pre-tokenizer."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    pieces = tokenizer.pre_tokenizer.pre_tokenize_str("a   12")
    assert [text for text, _ in pieces] == ["a", "ĠĠĠ", "1", "2"]
