"""The models that an organization may call: what they do, cost and how they fare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.http import require_safe

from billing.models import Price
from billing.speed import Speed, get_current_prices, get_speeds
from inference import catalogue
from inference.catalogue import Listed, access_listed, get_catalogue, get_ready_replicas
from inference.models import Model
from portal.pages import organization_page, render_page
from portal.snippets import chat_samples, embedding_samples, rerank_samples
from portal.tables import Column, Table
from portal.words_of_models import CAPABILITIES, ENDPOINTS, KINDS, Status, status_of
from tenants.models import Membership, Organization
from tenants.principals import limits_of_organization

LATELY = timedelta(hours=1)


@dataclass(frozen=True)
class Row:
    """A model of the list, with what the columns sort by."""

    listed: Listed
    price: Price | None
    speed: Speed | None
    status: Status
    ready: int

    @property
    def name(self) -> str:
        return self.listed.name

    @property
    def kind(self) -> str | Promise:
        return KINDS[self.listed.kind]

    @property
    def context(self) -> int:
        return self.listed.max_context_tokens

    @property
    def input_micros(self) -> int | None:
        return self.price.input_micros_per_million if self.price else None

    @property
    def output_micros(self) -> int | None:
        return self.price.output_micros_per_million if self.price else None

    @property
    def median_ms(self) -> int | None:
        return self.speed.median_ms if self.speed else None

    @property
    def p95_ms(self) -> int | None:
        return self.speed.p95_ms if self.speed else None

    @property
    def capabilities(self) -> list[str | Promise]:
        return [CAPABILITIES[each] for each in self.listed.capabilities]


class ModelFilter(forms.Form):
    q = forms.CharField(
        label=gettext_lazy("Search"), required=False, max_length=120,
        widget=forms.TextInput(attrs={"type": "search", "placeholder": gettext_lazy("Name"), "autocomplete": "off"}),
    )  # fmt: skip
    can = forms.ChoiceField(label=gettext_lazy("Can do"), required=False)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        choices = [("", gettext("Anything")), *CAPABILITIES.items()]
        self.fields["can"].choices = choices  # type: ignore[attr-defined]


class ModelTable(Table):
    columns = (
        Column("name", gettext_lazy("Model"), ("name",), is_primary=True),
        Column("can", gettext_lazy("Can do"), style="soft wrap"),
        Column("context", gettext_lazy("Context"), ("context",), True, is_number=True),
        Column("input", gettext_lazy("Input"), ("input_micros",), is_number=True),
        Column("output", gettext_lazy("Output"), ("output_micros",), is_number=True),
        Column("wait", gettext_lazy("First token"), ("median_ms",), is_number=True, style="soft"),
        Column("status", gettext_lazy("Status"), ("ready",), True),
    )
    sort = "name"

    def __init__(self, request: HttpRequest, rows: Sequence[Row]):
        super().__init__(request, form=ModelFilter(request.GET))
        self._all = rows

    def get_rows(self, chosen: Mapping[str, Any]) -> list[Row]:
        text, can = chosen.get("q", "").lower(), chosen.get("can", "")
        return [
            row
            for row in self._all
            if any(text in name.lower() for name in row.listed.names)
            and (not can or can in row.listed.capabilities)
        ]


@require_safe
@organization_page("organization.read")
def list_models(request: HttpRequest, membership: Membership) -> HttpResponse:
    rows = _rows(membership.organization, get_catalogue(membership.organization))
    context = {"models": ModelTable(request, rows)}
    return render_page(request, membership, "portal/models.html", context, tab="models")


@require_safe
@organization_page("organization.read")
def show_model(request: HttpRequest, membership: Membership, model_name: str) -> HttpResponse:
    organization = membership.organization
    listed = access_listed(organization, model_name)
    (row,) = _rows(organization, [listed])
    limits = organization.plan.model_limits.filter(model=listed.name).first()
    context = {
        "row": row,
        "model": listed,
        "tiers": _tiers(row.price),
        "endpoints": [address for each in listed.capabilities for address in ENDPOINTS.get(each, ())],
        "model_limits": limits,
        "whole_limits": limits_of_organization(organization),
        "samples": _samples(listed),
    }  # fmt: skip
    return render_page(request, membership, "portal/model.html", context, tab="models")


def _rows(organization: Organization, models: Sequence[Listed]) -> list[Row]:
    """Four questions however many models there are: fleet, prices, speed; limits are elsewhere."""
    now = timezone.now()
    ready = get_ready_replicas()
    prices = get_current_prices([each.name for each in models], now)
    speeds = get_speeds(organization, now - LATELY)
    rows = []
    for each in models:
        count = None if ready is None else sum(ready[pk] for pk in each.deployments)
        status = status_of(count, each.fallback)
        rows.append(Row(each, prices.get(each.name), speeds.get(each.name), status, count or 0))
    return rows


def _tiers(price: Price | None) -> list[tuple[str, int, int, int]]:
    """Each service tier with its micro-dollars for a million tokens: input, cached, output."""
    if price is None:
        return []
    percents = (
        (gettext("Standard"), 100),
        (gettext("Priority"), price.priority_percent),
        (gettext("Flex"), price.flex_percent),
        (gettext("Batch"), price.batch_percent),
    )
    rates = (
        price.input_micros_per_million,
        price.cached_input_micros_per_million,
        price.output_micros_per_million,
    )
    return [(name, *(rate * percent // 100 for rate in rates)) for name, percent in percents]  # type: ignore[misc]


def _samples(listed: Listed) -> list[tuple[str, str, str]]:
    if listed.kind == Model.Kind.CHAT:
        return chat_samples(settings.SLUICE_URL, listed.name)
    if catalogue.EMBEDDINGS in listed.capabilities:
        return embedding_samples(settings.SLUICE_URL, listed.name)
    return rerank_samples(settings.SLUICE_URL, listed.name)
