"""What every view of the management API shares: who calls, how often, in which scope.

A request runs in the scope of the organization whose admin key it presents, and its
audit events name that key. The path that routed it is the path that is authorized.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ClassVar

import msgspec
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django_ratelimit.core import get_usage
from redis.exceptions import RedisError
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.views import APIView

from api.management.errors import error_of, response_of
from api.management.operation import Operation, bounded_body
from api.management.schema import ManagementSchema
from tenants import access, audit, keys, scope
from tenants.admin_keys import authenticate_admin_key, note_use
from tenants.errors import InvalidInput, TooManyRequests
from tenants.idempotency import Outcome, answer_once
from tenants.models import ApiKey, Organization
from tenants.webhooks import signing

log = logging.getLogger(__name__)
access_log = logging.getLogger("api.access")

_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")


class ManagementView(APIView):
    """Methods are declared by ``@operation``; ``actor`` is who calls them."""

    authentication_classes: ClassVar[list[Any]] = []
    permission_classes: ClassVar[list[Any]] = []
    parser_classes: ClassVar[list[Any]] = [JSONParser]  # for the document; ``operation`` parses
    http_method_names: ClassVar[list[str]] = ["get", "post", "delete"]
    schema = ManagementSchema()

    key: ApiKey
    actor: access.Actor
    address: str | None

    @property
    def organization(self) -> Organization:
        return self.actor.organization

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        self.started_at, self.request_id = time.monotonic(), secrets.token_hex(12)
        with ExitStack() as self._entered:
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate, and enter the organization until the answer is made."""
        self.address = request.META.get("REMOTE_ADDR") or None
        header = request.META.get("HTTP_AUTHORIZATION", "").encode("utf-8", "surrogateescape")
        self.key = authenticate_admin_key(header, self.address)
        # Not for_organization: a session cookie beside the key must widen nothing.
        organization = scope.Scope(organization=self.key.organization_id)
        self._entered.enter_context(scope.entered(organization))
        self._entered.enter_context(audit.acting_program(self.key, self.address))
        self.actor = access.get_key_actor(self.key)
        check_rate(request._request, self.key)
        note_use(self.key, self.address)

    def answer(
        self, request: Request, declared: Operation, work: Callable[[], bytes]
    ) -> HttpResponse:
        """The method's answer; for a write with an Idempotency-Key, always the first one."""
        key = request.headers.get("Idempotency-Key")
        if key is None or request.method == "GET":
            return _json(200, work())
        if not _IDEMPOTENCY_KEY.fullmatch(key):
            raise InvalidInput("An Idempotency-Key has 1 to 255 visible ASCII characters.")
        outcome = answer_once(
            self.organization,
            self.key.public_id,
            key,
            _fingerprint(request._request),
            lambda: self._outcome(work),
            without_secrets,
        )
        response = _json(outcome.status, outcome.body)
        for name, value in getattr(self, "_headers", {}).items():
            response.headers[name] = value
        if outcome.is_replay:
            response.headers["idempotent-replayed"] = "true"
        return response

    def _outcome(self, work: Callable[[], bytes]) -> Outcome:
        try:
            with transaction.atomic():
                return Outcome(200, work())
        except Exception as error:  # the edge of the request, brought forward to be remembered
            found = error_of(error, self.request_id)
            self._headers = {name.decode(): value.decode() for name, value in found.headers}
            return Outcome(found.status, found.body())

    def handle_exception(self, exc: Exception) -> HttpResponse:
        response = response_of(error_of(exc, self.request_id))
        if response.status_code == 405:
            response.headers["allow"] = ", ".join(self.allowed_methods)
        return response

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        elapsed_ms = int((time.monotonic() - self.started_at) * 1000)
        response.headers["x-request-id"] = self.request_id
        response.headers["openai-processing-ms"] = str(elapsed_ms)
        # Keys and names of people: for nobody's cache.
        response.headers["cache-control"] = "no-store"
        access_log.info(
            "management",
            extra={
                "request_id": self.request_id,
                "method": request.method,
                "path": request.path[:200],
                "status": response.status_code,
                "duration_ms": elapsed_ms,
            },
        )
        return response


def check_rate(request: HttpRequest, key: ApiKey) -> None:
    """Count this call in the key's minute. Redis down lets it pass, as on the pages."""
    rate = f"{settings.MANAGEMENT_REQUESTS_PER_MINUTE}/m"
    try:
        usage = get_usage(
            request,
            group="api.management",
            key=lambda group, request: key.public_id,
            rate=rate,
            increment=True,
        )
    except RedisError:
        log.warning("rate limit not counted", exc_info=True)
        return
    if usage and usage["should_limit"]:
        raise TooManyRequests(
            f"This admin key may call the management API {rate.partition('/')[0]} times a minute.",
            retry_after_s=max(1, usage["time_left"]),
        )


def without_secrets(body: bytes) -> bytes:
    """The answer as it may be stored: with null in place of each secret of a key or webhook."""
    return msgspec.json.encode(_redacted(msgspec.json.decode(body)))


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _redacted(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    is_secret = isinstance(value, str) and (
        keys.lookup_of(value) or value.startswith(signing.PREFIX)
    )
    return None if is_secret else value


def _fingerprint(request: HttpRequest) -> str:
    parts = (request.method or "", request.get_full_path(), "")
    return hashlib.sha256("\n".join(parts).encode() + bounded_body(request)).hexdigest()


def _json(status: int, body: bytes) -> HttpResponse:
    return HttpResponse(body, status=status, content_type="application/json")
