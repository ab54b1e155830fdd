"""Requests as no well-behaved client sends them: bytes on a socket, and what comes back."""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass
from typing import Any

from tests.harness.platform import CHAT_MODEL, Platform

CHAT = "/v1/chat/completions"
BODY = json.dumps(
    {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
).encode()


@dataclass(frozen=True)
class Answer:
    """``status`` 0: the server closed the connection without a word."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> Any:
        return json.loads(self.body)["error"]


def send(platform: Platform, content: bytes, timeout_s: float = 15) -> Answer:
    """Everything that the server says until it closes or has answered one request."""
    with socket.create_connection(("127.0.0.1", platform.port), timeout=timeout_s) as connection:
        # It may refuse before it has read everything.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(content)
        said = b""
        while not _is_whole(said):
            try:
                part = connection.recv(65_536)
            except ConnectionResetError:
                break
            if not part:
                break
            said += part
    return _parsed(said)


def get(platform: Platform, target: str | bytes, *headers: bytes) -> Answer:
    return send(platform, request("GET", target, *headers))


def post(platform: Platform, target: str | bytes, *headers: bytes, body: bytes = BODY) -> Answer:
    more = (b"Content-Type: application/json", b"Content-Length: %d" % len(body))
    return send(platform, request("POST", target, *headers, *more) + body)


def request(method: str, target: str | bytes, *headers: bytes) -> bytes:
    """A head with a Host, unless ``headers`` bring one."""
    target = target.encode() if isinstance(target, str) else target
    hosts = () if any(h.lower().startswith(b"host:") for h in headers) else (b"Host: 127.0.0.1",)
    lines = [method.encode() + b" " + target + b" HTTP/1.1", *hosts, *headers, b"Connection: close"]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def bearer(key: str) -> bytes:
    return b"Authorization: Bearer " + key.encode()


def _parsed(said: bytes) -> Answer:
    head, _, body = said.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if not lines[0].startswith("HTTP/"):
        return Answer(0, {}, said)
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:])
    }
    return Answer(int(lines[0].split()[1]), headers, body)


def _is_whole(said: bytes) -> bool:
    head, found, body = said.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return bool(found) and len(body) >= int(line.partition(b":")[2])
    return False
