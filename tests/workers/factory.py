"""Submissions as gateways send them."""

from __future__ import annotations

import itertools
import time

from inference.wire import Sampling, Submission

_serial = itertools.count()


def make_submission(
    organization: int = 1,
    *,
    weight: int = 1,
    prompt_tokens: int = 10,
    max_tokens: int = 5,
    gateway: str = "gateway",
    incarnation: str = "",
    offset: int = 0,
    sampling: Sampling | None = None,
    attempt: int = 1,
    tier: str = "standard",
) -> Submission:
    return Submission(
        request_id=f"req-{next(_serial)}/0.0",
        attempt=attempt,
        gateway=gateway,
        incarnation=incarnation,
        organization=organization,
        weight=weight,
        prompt_ids=[1] * prompt_tokens,
        sampling=sampling or Sampling(max_tokens=max_tokens),
        cache_salt="",
        submitted_at=time.time(),
        offset=offset,
        tier=tier,
    )
