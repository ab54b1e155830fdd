"""hf:// and s3:// against servers of this process that break off and speak the real protocol."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from tests.inference.tiny_models import write_tiny_model

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "c" * 40
WEIGHTS = "model.safetensors"
# A process of its own: both SDKs read their settings when they are imported.
PULL = """
import sys
from pathlib import Path
from inference.errors import StoreError
from inference.store.pull import Pull, pull_model
try:
    pulled = pull_model(Pull(sys.argv[1], "tiny", "1"), Path(sys.argv[2]), print)
except StoreError as error:
    sys.exit(f"{type(error).__name__}: {error.message}")
print(pulled.manifest.revision)
"""


@dataclass
class Remote:
    """What a server has, where it breaks off, and what it was asked for."""

    files: dict[str, bytes]
    break_after: int | None = None
    breaks: int = 0
    ranges: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    remote: Remote

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, body: bytes, kind: str, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_file(self, name: str, **headers: str) -> None:
        """A file or the asked range of it; weights break off while breaks are left."""
        content = self.remote.files[name]
        asked = re.fullmatch(r"bytes=(\d+)-.*", self.headers.get("Range") or "")
        start = int(asked[1]) if asked else 0
        if name == WEIGHTS and self.command == "GET":
            self.remote.ranges.append(self.headers.get("Range") or "")
        rest = content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
        if asked:
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if name == WEIGHTS and self.remote.break_after is not None and self.remote.breaks > 0:
            self.remote.breaks -= 1
            self.wfile.write(rest[: self.remote.break_after])
            self.close_connection = True
            return
        self.wfile.write(rest)


class Hub(Handler):
    """The part of a Hugging Face hub that a download asks for."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        name = path.partition(f"/resolve/{COMMIT}/")[2]
        if path.startswith("/api/models/owner/tiny/tree/"):
            tree = [{"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                    for name, content in self.remote.files.items()]  # fmt: skip
            self.answer(json.dumps(tree).encode(), "application/json")
        elif path.startswith("/api/models/owner/tiny"):
            info = {
                "id": "owner/tiny",
                "modelId": "owner/tiny",
                "sha": COMMIT,
                "cardData": {"license": "cc0-1.0"},
                "siblings": [{"rfilename": name} for name in self.remote.files],
            }
            self.answer(json.dumps(info).encode(), "application/json")
        elif name in self.remote.files:
            self.answer_file(name, X_Repo_Commit=COMMIT)
        else:
            self.answer(b"{}", "application/json", 404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET


class Bucket(Handler):
    """ListObjectsV2 in pages of two, and GetObject."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        key = unquote(parts.path).removeprefix("/bucket").lstrip("/")
        if key:
            self.answer_file(key.removeprefix("tiny/"))
            return
        query = parse_qs(parts.query)
        names = sorted(self.remote.files)
        start = int(query.get("continuation-token", ["0"])[0])
        items = "".join(
            f"<Contents><Key>tiny/{escape(name)}</Key><Size>{len(self.remote.files[name])}</Size>"
            f'<ETag>"{hashlib.md5(self.remote.files[name]).hexdigest()}"</ETag></Contents>'
            for name in names[start : start + 2]
        )
        more = start + 2 < len(names)
        token = f"<NextContinuationToken>{start + 2}</NextContinuationToken>" if more else ""
        body = (
            '<?xml version="1.0"?><ListBucketResult><Name>bucket</Name>'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{items}</ListBucketResult>"
        )
        self.answer(body.encode(), "application/xml")


@contextmanager
def serving(kind: type[Handler], remote: Remote) -> Iterator[str]:
    handler = type("Bound", (kind,), {"remote": remote})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    folder = write_tiny_model(tmp_path / "source")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    files[WEIGHTS] += bytes(range(256)) * 8192
    return Remote({**files, "pytorch_model.bin": b"pickle", "modeling.py": b"code"})


def pull(uri: str, store: Path, url: str) -> subprocess.CompletedProcess[str]:
    environ = {
        **os.environ,
        "HF_ENDPOINT": url,
        "HF_HOME": str(store / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    return subprocess.run(
        [sys.executable, "-c", PULL, uri, str(store)],
        cwd=ROOT,
        env=environ,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def check_arrived(store: Path, remote: Remote) -> None:
    folder = store / "tiny" / "1"
    for name, content in remote.files.items():
        if name in {"pytorch_model.bin", "modeling.py"}:
            assert not (folder / name).exists()
        else:
            assert (folder / name).read_bytes() == content


def test_a_hub_repository_arrives_pinned_to_its_commit(remote: Remote, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    with serving(Hub, remote) as url:
        done = pull("hf://owner/tiny@main", tmp_path / "store", url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == COMMIT
    check_arrived(tmp_path / "store", remote)
    manifest = json.loads((tmp_path / "store/tiny/1/sluice.json").read_text())
    assert {"stated_by": "hub", "name": "cc0-1.0"} in manifest["licences"]


def test_a_hub_download_goes_on_where_it_broke_off(remote: Remote, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    # The hub's client counts what it has in chunks of 10 MiB.
    chunk = 10 << 20
    remote.files[WEIGHTS] += bytes(chunk)
    remote.break_after, remote.breaks = chunk + 1000, 1
    with serving(Hub, remote) as url:
        done = pull("hf://owner/tiny", tmp_path / "store", url)
    assert done.returncode == 0, done.stderr
    assert remote.ranges == ["", f"bytes={chunk}-"]
    check_arrived(tmp_path / "store", remote)


def test_a_hub_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    done = pull("hf://owner/tiny", tmp_path / "store", "http://127.0.0.1:9")
    assert done.returncode == 1 and "FetchFailed" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_hub_without_the_repository(remote: Remote, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    with serving(Hub, remote) as url:
        done = pull("hf://owner/absent", tmp_path / "store", url)
    assert done.returncode == 1 and "FetchFailed" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bucket_arrives_page_by_page(remote: Remote, tmp_path: Path) -> None:
    pytest.importorskip("boto3")
    with serving(Bucket, remote) as url:
        done = pull("s3://bucket/tiny", tmp_path / "store", url)
    assert done.returncode == 0, done.stderr
    check_arrived(tmp_path / "store", remote)


def test_a_bucket_download_goes_on_where_it_broke_off(remote: Remote, tmp_path: Path) -> None:
    pytest.importorskip("boto3")
    remote.break_after, remote.breaks = 1 << 20, 1
    with serving(Bucket, remote) as url:
        done = pull("s3://bucket/tiny", tmp_path / "store", url)
    assert done.returncode == 0, done.stderr
    assert remote.ranges == ["bytes=0-", f"bytes={1 << 20}-"]
    check_arrived(tmp_path / "store", remote)


def test_without_boto3_the_error_names_the_extra(remote: Remote, tmp_path: Path) -> None:
    script = "import sys; sys.modules['boto3'] = None\n" + PULL
    done = subprocess.run(
        [sys.executable, "-c", script, "s3://bucket/tiny", str(tmp_path / "store")],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "MissingExtra" in done.stderr and "`s3` extra" in done.stderr
