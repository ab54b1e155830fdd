"""Caching on the wire: an extension of ours, there is none at OpenAI. Money in micro-dollars."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from api.management.wire import Answer, Body
from inference import caching
from inference.semantic_cache import DEFAULT_THRESHOLD
from tenants.models import Organization

Mode = Literal["off", "asked", "all"]


class CachePotential(Answer, frozen=True, kw_only=True):
    """What keeping answers so long would have saved beyond what was; estimated."""

    hours: int
    requests: int
    share: float
    completion_tokens: int
    amount_micros: int

    @classmethod
    def of(cls, potential: caching.Potential) -> CachePotential:
        return cls(
            hours=potential.hours,
            requests=potential.requests,
            share=round(potential.share, 4),
            completion_tokens=potential.completion_tokens,
            amount_micros=potential.micros,
        )


class CacheAdvice(Answer, frozen=True, kw_only=True):
    code: Literal["exact", "semantic", "prefix"]
    message: str
    response_cache_ttl_s: int | None


class CachingTerms(Answer, frozen=True, kw_only=True):
    """``semantic_cache_threshold`` is what holds, the platform's where none is set."""

    response_cache_ttl_s: int  # 0: off
    semantic_cache: Mode
    semantic_cache_ttl_s: int
    semantic_cache_threshold: float
    object: Literal["organization.caching"] = "organization.caching"

    @classmethod
    def of(cls, organization: Organization) -> CachingTerms:
        return cls(
            response_cache_ttl_s=organization.response_cache_ttl_s,
            semantic_cache=organization.semantic_cache,  # type: ignore[arg-type]
            semantic_cache_ttl_s=organization.semantic_cache_ttl_s,
            semantic_cache_threshold=organization.semantic_cache_threshold or DEFAULT_THRESHOLD,
        )


class CachingReport(Answer, frozen=True, kw_only=True):
    """Of the last ``days`` days, estimated from a sample without storing prompts."""

    days: int
    requests: int
    fixed_requests: int
    cache_hits: int
    prompt_tokens: int
    prompt_tokens_cached: int
    prompt_tokens_seen_before: int
    exact_potential: list[CachePotential]
    similar_potential: list[CachePotential]
    advice: list[CacheAdvice]
    object: Literal["organization.caching.report"] = "organization.caching.report"

    @classmethod
    def of(cls, report: caching.CachingReport) -> CachingReport:
        return cls(
            days=report.days,
            requests=report.requests,
            fixed_requests=report.fixed,
            cache_hits=report.hits,
            prompt_tokens=report.prompt_tokens,
            prompt_tokens_cached=report.cached_tokens,
            prompt_tokens_seen_before=report.known_tokens,
            exact_potential=[CachePotential.of(each) for each in report.exact],
            similar_potential=[CachePotential.of(each) for each in report.alike],
            advice=[
                CacheAdvice(
                    code=each.code,  # type: ignore[arg-type]
                    message=each.text,
                    response_cache_ttl_s=each.response_cache_ttl_s,
                )
                for each in report.advice
            ],
        )


class NewCachingTerms(Body, frozen=True, kw_only=True):
    """What is absent stays; a threshold of null is the platform's own."""

    response_cache_ttl_s: Annotated[int, Meta(ge=0, le=86_400)] | UnsetType = UNSET
    semantic_cache: Mode | UnsetType = UNSET
    semantic_cache_ttl_s: Annotated[int, Meta(ge=60, le=86_400)] | UnsetType = UNSET
    semantic_cache_threshold: Annotated[float, Meta(ge=0.5, le=1.0)] | UnsetType | None = UNSET


class ForgottenAnswers(Answer, frozen=True, kw_only=True):
    forgotten: bool = True
    object: Literal["organization.caching.answers"] = "organization.caching.answers"
