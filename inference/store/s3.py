"""``s3://bucket/prefix``: a folder (or one GGUF file) in an S3-compatible store.

Credentials, region and endpoint are the AWS SDK's own settings
(``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, …). A broken download goes on at the
byte where it stopped, as long as the object's ETag is the same.
"""

from __future__ import annotations

import random
import re
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from inference.errors import BadSource, FetchFailed, MissingExtra
from inference.store.fetched import Fetched, Report, is_wanted, safe_target

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
ATTEMPTS = 5
CHUNK = 1 << 20


@dataclass(frozen=True)
class Address:
    bucket: str
    prefix: str


@dataclass(frozen=True)
class Remote:
    """An object to fetch: its key, its name in the store, size in bytes and ETag."""

    key: str
    name: str
    size: int
    etag: str


def parse(uri: str) -> Address:
    parts = urlsplit(uri)
    prefix = unquote(parts.path).strip("/")
    if not parts.netloc or not prefix or parts.query or parts.fragment:
        raise BadSource(f"{uri!r} is not s3://bucket/prefix.")
    return Address(parts.netloc, prefix)


def fetch(uri: str, staging: Path, downloads: Path, report: Report) -> Fetched:
    address = parse(uri)
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            HTTPClientError,
            IncompleteReadError,
        )
    except ImportError as error:
        raise MissingExtra("boto3", "s3", "An s3:// source") from error
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"max_attempts": ATTEMPTS, "mode": "standard"},
    )
    try:
        client = boto3.client("s3", config=config)
        remotes = _list(client, address)
        if not remotes:
            raise BadSource(f"{uri} has no file of a model.")
        for remote in remotes:
            report(f"downloading {remote.name}, {remote.size >> 20} MiB")
            _download(
                client, address.bucket, remote, staging, (HTTPClientError, IncompleteReadError)
            )
    except (BotoCoreError, ClientError) as error:
        raise FetchFailed(f"{uri} could not be fetched: {error}") from error
    return Fetched(frozenset(remote.name for remote in remotes))


def _list(client: Any, address: Address) -> list[Remote]:
    """The wanted objects below the prefix, or the one object that it names."""
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=address.bucket, Prefix=address.prefix
    )
    remotes = []
    for item in (item for page in pages for item in page.get("Contents", [])):
        key = item["Key"]
        if key == address.prefix:
            name = key.rsplit("/", 1)[-1]
        elif key.startswith(address.prefix + "/") and not key.endswith("/"):
            name = key.removeprefix(address.prefix + "/")
        else:
            continue
        if is_wanted(name):
            remotes.append(Remote(key, name, item["Size"], item["ETag"]))
    return remotes


def _download(
    client: Any, bucket: str, remote: Remote, staging: Path, broken: tuple[type[Exception], ...]
) -> None:
    """Fetch one object into ``staging``; the SDK retries requests, this retries bodies."""
    target = safe_target(staging, remote.name)
    if target.is_file() and target.stat().st_size == remote.size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # The ETag is in the part's name: a part of a changed object is not gone on with.
    etag = re.sub(r"\W+", "", remote.etag)
    part = target.with_name(f"{target.name}.{etag}.part")
    for attempt in range(ATTEMPTS):
        try:
            _append(client, bucket, remote, part)
            break
        except broken as error:
            if attempt == ATTEMPTS - 1:
                raise FetchFailed(f"{remote.key} broke off {ATTEMPTS} times: {error}") from error
            time.sleep(random.uniform(0.5, 1.0) * 2**attempt)  # noqa: S311
    part.rename(target)


def _append(client: Any, bucket: str, remote: Remote, part: Path) -> None:
    have = part.stat().st_size if part.is_file() else 0
    if have < remote.size:
        answer = client.get_object(
            Bucket=bucket, Key=remote.key, IfMatch=remote.etag, Range=f"bytes={have}-"
        )
        # Not `with answer["Body"]`: that yields the raw stream, which ends early in silence.
        with part.open("ab") as out, closing(answer["Body"]) as body:
            while chunk := body.read(CHUNK):
                out.write(chunk)
    elif not part.exists():
        part.touch()  # an empty object has no range to ask for
    if part.stat().st_size != remote.size:
        part.unlink()
        raise FetchFailed(f"{remote.key} is not as long as the bucket says.")
