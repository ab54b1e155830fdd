"""Objects in a bucket. Credentials, region and endpoint are the AWS SDK's own settings
(``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, …).

What is written goes up in parts as it comes, so that no process ever holds a whole file.
An upload that died with its process leaves parts that no listing shows: give the bucket a
lifecycle rule that aborts incomplete uploads (docs/rooms/deploy.md).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from inference.errors import MissingExtra
from inference.objects.store import CHUNK_BYTES, ObjectMissing, ObjectStoreUnavailable

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
ATTEMPTS = 5
# S3's least part is 5 MiB, and an upload has at most 10,000.
PART_BYTES = 8 << 20


class S3Store:
    def __init__(self, bucket: str, prefix: str = ""):
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise MissingExtra("boto3", "s3", "An s3:// object store") from error
        self._errors = (BotoCoreError, ClientError)
        self._client = boto3.client(
            "s3",
            config=Config(
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=READ_TIMEOUT_S,
                retries={"max_attempts": ATTEMPTS, "mode": "standard"},
            ),
        )
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def call(self, operation: str, key: str, **arguments: Any) -> Any:
        """One request; what goes wrong is this room's error."""
        try:
            return getattr(self._client, operation)(
                Bucket=self._bucket, Key=self._prefix + key, **arguments
            )
        except self._errors as error:
            code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
            if code in ("NoSuchKey", "404"):
                raise ObjectMissing("The file's content is gone.") from None
            log.warning("objects.s3_failed", extra={"operation": operation, "error": repr(error)})
            raise ObjectStoreUnavailable("Files cannot be stored or read right now.") from error

    def writer(self, key: str) -> S3Writer:
        return S3Writer(self, key)

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        if end is not None and end <= start:
            return
        last = "" if end is None else str(end - 1)
        wanted = {} if not start and end is None else {"Range": f"bytes={start}-{last}"}
        answer = self.call("get_object", key, **wanted)
        try:
            with closing(answer["Body"]) as body:
                while chunk := body.read(CHUNK_BYTES):
                    yield chunk
        except self._errors as error:
            raise ObjectStoreUnavailable("Files cannot be read right now.") from error

    def delete(self, key: str) -> None:
        self.call("delete_object", key)


class S3Writer:
    def __init__(self, store: S3Store, key: str):
        self._store = store
        self._key = key
        self._waiting = bytearray()
        self._upload = ""
        self._parts: list[dict[str, Any]] = []

    def write(self, data: bytes) -> None:
        self._waiting += data
        while len(self._waiting) >= PART_BYTES:
            self._send(bytes(self._waiting[:PART_BYTES]))
            del self._waiting[:PART_BYTES]

    def commit(self) -> None:
        if not self._upload:
            self._store.call("put_object", self._key, Body=bytes(self._waiting))
            return
        if self._waiting:
            self._send(bytes(self._waiting))
        self._store.call(
            "complete_multipart_upload",
            self._key,
            UploadId=self._upload,
            MultipartUpload={"Parts": self._parts},
        )

    def abort(self) -> None:
        if not self._upload:
            return
        try:
            self._store.call("abort_multipart_upload", self._key, UploadId=self._upload)
        except (ObjectStoreUnavailable, ObjectMissing):
            log.warning("objects.upload_not_aborted", extra={"key": self._key})

    def _send(self, part: bytes) -> None:
        if not self._upload:
            self._upload = self._store.call("create_multipart_upload", self._key)["UploadId"]
        number = len(self._parts) + 1
        answer = self._store.call(
            "upload_part", self._key, UploadId=self._upload, PartNumber=number, Body=part
        )
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})
