"""Objects in a folder and in a bucket: seen whole or not at all, read in part, deleted."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from inference.objects import ObjectMissing, ObjectStore
from inference.objects.local import LocalStore
from inference.objects.store import CHUNK_BYTES, ObjectStoreUnavailable

KEY = "7/file-a"


class Bucket(http.server.BaseHTTPRequestHandler):
    """As much of S3's protocol as a store needs; objects lie in memory."""

    objects: dict[str, bytes]
    uploads: dict[str, dict[int, bytes]]
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def _asked(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, True).items()}
        return parts.path, query

    def _body(self) -> bytes:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        if "aws-chunked" not in self.headers.get("content-encoding", ""):
            return raw
        found, rest = b"", raw
        while rest:  # <hex size>[;signature]\r\n<bytes>\r\n, until a size of 0
            head, _, rest = rest.partition(b"\r\n")
            size = int(head.partition(b";")[0], 16)
            if not size:
                break
            found, rest = found + rest[:size], rest[size + 2 :]
        return found

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        path, query = self._asked()
        if "uploadId" in query:
            self.uploads[query["uploadId"]][int(query["partNumber"])] = self._body()
        else:
            self.objects[path] = self._body()
        self._answer(200, ETag='"e"')

    def do_POST(self) -> None:
        path, query = self._asked()
        self._body()
        if "uploads" in query:
            name = str(len(self.uploads))
            self.uploads[name] = {}
            self._answer(200, f"<R><UploadId>{name}</UploadId></R>".encode())
        else:
            parts = self.uploads.pop(query["uploadId"])
            self.objects[path] = b"".join(parts[number] for number in sorted(parts))
            self._answer(200, b"<R><ETag>e</ETag></R>")

    def do_GET(self) -> None:
        path, _ = self._asked()
        if path not in self.objects:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        body, asked = self.objects[path], self.headers.get("range")
        if asked:
            start, _, end = asked.removeprefix("bytes=").partition("-")
            body = body[int(start) : int(end) + 1 if end else None]
        self._answer(206 if asked else 200, body)

    def do_DELETE(self) -> None:
        path, query = self._asked()
        if "uploadId" in query:
            self.uploads.pop(query["uploadId"], None)
        else:
            self.objects.pop(path, None)
        self._answer(204)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Bucket]]:
    handler = type("Handler", (Bucket,), {"objects": {}, "uploads": {}})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return LocalStore(tmp_path)
    pytest.importorskip("boto3", reason="the s3 extra is not installed")
    request.getfixturevalue("bucket")
    from inference.objects.s3 import S3Store

    return S3Store("bucket", "clients")


def write(store: ObjectStore, *pieces: bytes) -> None:
    writer = store.writer(KEY)
    for piece in pieces:
        writer.write(piece)
    writer.commit()


@pytest.mark.parametrize("size", [0, 10, 3 * CHUNK_BYTES, 20 * CHUNK_BYTES + 7])
def test_what_is_written_in_pieces_is_read_whole_and_in_part(store: ObjectStore, size: int) -> None:
    content = bytes(number % 251 for number in range(1_000)) * (size // 1_000 + 1)
    content = content[:size]
    step = CHUNK_BYTES * 3 // 2
    write(store, *(content[at : at + step] for at in range(0, size, step)))
    pieces = list(store.read(KEY))
    assert b"".join(pieces) == content
    assert max(map(len, pieces), default=0) <= CHUNK_BYTES
    for start, end in ((0, 5), (3, 3), (size // 2, size // 2 + 100), (max(0, size - 3), None)):
        assert b"".join(store.read(KEY, start, end)) == content[start:end]


def test_nothing_is_there_before_its_end_or_after_giving_up(store: ObjectStore) -> None:
    for size in (10, 20 * CHUNK_BYTES):
        writer = store.writer(KEY)
        writer.write(b"x" * size)
        with pytest.raises(ObjectMissing):
            list(store.read(KEY))
        writer.abort()
        with pytest.raises(ObjectMissing):
            list(store.read(KEY))


def test_deleting_may_be_repeated(store: ObjectStore) -> None:
    write(store, b"x")
    store.delete(KEY)
    store.delete(KEY)
    with pytest.raises(ObjectMissing):
        list(store.read(KEY))


def test_a_given_up_upload_leaves_no_parts_in_the_bucket(bucket: type[Bucket]) -> None:
    pytest.importorskip("boto3", reason="the s3 extra is not installed")
    from inference.objects.s3 import S3Store

    writer = S3Store("bucket").writer(KEY)
    writer.write(b"x" * (20 << 20))
    assert [len(parts) for parts in bucket.uploads.values()] == [2]
    writer.abort()
    assert bucket.uploads == {} and bucket.objects == {}


@pytest.mark.parametrize("key", ["../x", "7/../../etc/passwd", "7/a/b", "x/y", "/etc/passwd", "7"])
def test_no_key_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    store = LocalStore(tmp_path / "objects")
    for action in (store.writer, store.delete, lambda key: list(store.read(key))):
        with pytest.raises(ValueError, match="not the key of an object"):
            action(key)


def test_a_folder_that_cannot_be_written_is_an_error_of_the_room(tmp_path: Path) -> None:
    (tmp_path / "7").write_text("a file where a folder should be")
    with pytest.raises(ObjectStoreUnavailable):
        LocalStore(tmp_path).writer(KEY)
    with pytest.raises(ObjectStoreUnavailable):
        list(LocalStore(tmp_path).read(KEY))
