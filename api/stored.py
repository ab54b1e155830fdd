"""Keeping an answer, and reading kept ones, from the token path."""

from __future__ import annotations

import logging
from typing import Any

from django.core.exceptions import ObjectDoesNotExist

from api.resources import Caller
from inference.answers import actions
from inference.errors import InferenceError
from tenants.models import ApiKey, Project
from tenants.principal import Principal

log = logging.getLogger(__name__)


def may_keep(principal: Principal) -> bool:
    return principal.answers_kept_days > 0


async def keep(principal: Principal, **fields: Any) -> bool:
    """Whether it is kept. An answer that was made goes out whatever became of its keeping: it
    is paid, and says whether it can be found again. ``fields`` are ``keep_answer``'s."""
    try:
        await Caller(principal, None).work(_keep, fields)
    except (InferenceError, ObjectDoesNotExist) as error:
        log.warning("answer.not_kept", extra={"id": fields["public_id"], "error": repr(error)})
        return False
    return True


def _keep(project: Project, key: ApiKey, fields: dict[str, Any]) -> None:
    actions.keep_answer(project, api_key=key, **fields)
