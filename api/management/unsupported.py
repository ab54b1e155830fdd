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


def unsupported(name: str, reason: str) -> Any:
    """A view that refuses whatever is asked of ``name``, and says why."""
    view: Any = type(name, (_Unsupported,), {"reason": reason, "__module__": __name__})
    return view.as_view()
