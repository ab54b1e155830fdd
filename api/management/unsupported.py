"""What OpenAI's admin API has and this platform does not: refused by its name."""

from __future__ import annotations

from typing import Any

from api.management.operation import operation
from api.management.view import ManagementView
from api.management.wire import Body, Error
from tenants.errors import TenantError


class UnsupportedField(TenantError):
    code = "unsupported_parameter"


class UnsupportedEndpoint(TenantError):
    # 404 and not 501: OpenAI's clients repeat a 5xx, and repeating does not help.
    status = 404
    code = "unsupported_endpoint"


class UnknownEndpoint(TenantError):
    status = 404
    code = "unknown_url"


def refuse_fields(body: Body, *names: str) -> None:
    """Fields of OpenAI's that mean nothing here may be there, as long as they say nothing."""
    for name in names:
        if getattr(body, name) not in (None, "GLOBAL"):
            raise UnsupportedField(f"{name} is not supported here.", param=name)


class _Unsupported(ManagementView):
    """``reason`` completes the sentence “Sluice does not serve this: …”."""

    reason = ""

    def _refuse(self) -> Any:
        raise UnsupportedEndpoint(f"This platform does not serve this endpoint: {self.reason}")

    @operation("organization.read", answer=Error, unsupported=True)
    def get(self, **ids: str) -> Any:
        """Not served."""
        self._refuse()

    @operation("organization.read", answer=Error, unsupported=True)
    def post(self, **ids: str) -> Any:
        """Not served."""
        self._refuse()

    @operation("organization.read", answer=Error, unsupported=True)
    def delete(self, **ids: str) -> Any:
        """Not served."""
        self._refuse()


def _unsupported(name: str, reason: str) -> Any:
    view: Any = type(name, (_Unsupported,), {"reason": reason, "__module__": __name__})
    return view.as_view()


# Address after /v1/organization/, and the view that refuses it and says why.
_PROJECT = "projects/<id:project_id>"
_CERTIFICATES = "client certificates are not checked; keys can be held to networks instead."
_RETENTION = "for how long answers are kept is set in the portal."
_STORAGE = "nothing is kept in storage or under keys of your own."
_IDENTITIES = "programs log in with API keys only."
_TOOLS = "there are no hosted tools."
_TIERS = "which service tiers may be asked for is set by the plan, not for a project."
_REASONS = {
    "certificates": _CERTIFICATES,
    "certificates/activate": _CERTIFICATES,
    "certificates/deactivate": _CERTIFICATES,
    "certificates/<id:object_id>": _CERTIFICATES,
    f"{_PROJECT}/certificates": _CERTIFICATES,
    f"{_PROJECT}/certificates/activate": _CERTIFICATES,
    f"{_PROJECT}/certificates/deactivate": _CERTIFICATES,
    "data_retention": _RETENTION,
    f"{_PROJECT}/data_retention": _RETENTION,
    f"{_PROJECT}/hosted_tool_permissions": _TOOLS,
    f"{_PROJECT}/service_tier_settings": _TIERS,
    "external_keys": _STORAGE,
    "external_keys/<id:object_id>": _STORAGE,
    "external_keys/<id:object_id>/validate": _STORAGE,
    "external_storage": _STORAGE,
    "external_storage/<id:object_id>": _STORAGE,
    "external_storage/<id:object_id>/validate": _STORAGE,
    "workload_identity_providers": _IDENTITIES,
    "workload_identity_providers/<id:object_id>": _IDENTITIES,
    "workload_identity_providers/<id:object_id>/federation_rules": _IDENTITIES,
    "workload_identity_providers/<id:object_id>/federation_rules/<id:rule_id>": _IDENTITIES,
}
UNSUPPORTED = [
    (address, _unsupported(f"Unsupported{number}", reason))
    for number, (address, reason) in enumerate(_REASONS.items(), 1)
]
