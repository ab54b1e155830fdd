"""Calling the management API in tests: a client that speaks as one admin key."""

from __future__ import annotations

import json
from typing import Any

from django.test import Client

ROOT = "/v1/organization"


class Caller:
    """``caller.get("/projects")``; each answer's status is asserted where it is asked for."""

    def __init__(self, key: str | None, **headers: str) -> None:
        self._client = Client()
        self._headers = dict(headers)
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"

    def send(
        self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, **options: Any
    ) -> Any:
        content = raw if raw is not None else (b"" if body is None else json.dumps(body).encode())
        headers = self._headers | options.pop("headers", {})
        address = path if path.startswith("/v1/") else ROOT + path
        return self._client.generic(
            method,
            address,
            content,
            content_type=options.pop("content_type", "application/json" if content else ""),
            headers=headers,
            **options,
        )

    def get(self, path: str, status: int = 200, **options: Any) -> Any:
        return self._checked("GET", path, None, status, options)

    def post(self, path: str, body: Any = None, status: int = 200, **options: Any) -> Any:
        return self._checked("POST", path, body, status, options)

    def delete(self, path: str, status: int = 200, **options: Any) -> Any:
        return self._checked("DELETE", path, None, status, options)

    def _checked(self, method: str, path: str, body: Any, status: int, options: Any) -> Any:
        response = self.send(method, path, body, **options)
        assert response.status_code == status, (method, path, response.content)
        assert len(response["x-request-id"]) == 24
        answer = response.json()
        if status >= 400:
            assert set(answer) == {"error"}
            assert set(answer["error"]) == {"message", "type", "param", "code"}
            return answer["error"]
        return answer
