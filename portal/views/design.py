"""``/admin/design/``: every component in every state, for whoever builds or judges pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from portal.changes import Change
from portal.charts import Series, draw_bars, draw_lines
from portal.fields import DollarsField
from portal.tables import Column, Table
from portal.templatetags.portal import compact, micros, thousands

# The page shows the same figures at any time, so that two pictures of it can be compared.
SOME_DAY = datetime(2026, 11, 27, 9, 30, tzinfo=UTC)
MODELS = ("smollm2-135m-instruct", "llama-3.1-8b-instruct", "all-minilm-l6-v2")
STATES = (("live", "Live", "good"), ("draining", "Draining", "warn"), ("dead", "Dead", "bad"))
WAVE = (31, 42, 38, 55, 61, 22, 18, 47, 58, 64, 71, 69, 33, 27, 52, 66, 78, 74, 81, 40, 36, 70, 88)


@dataclass(frozen=True)
class Sample:
    """A row of the sample table: a replica that never was."""

    name: str
    model: str
    state: tuple[str, str, str]
    started_at: datetime
    tokens_per_s: int | None


SAMPLES = tuple(
    Sample(
        name=f"replica-{number:02d}",
        model=MODELS[number % 3],
        state=STATES[0 if number % 5 else 1 + number % 2],
        started_at=SOME_DAY - timedelta(hours=number * 7),
        tokens_per_s=None if number % 5 == 0 else 120 + number * 37 % 400,
    )
    for number in range(1, 24)
)


class SampleFilter(forms.Form):
    q = forms.CharField(label=gettext_lazy("Search"), required=False, max_length=60)
    state = forms.ChoiceField(
        label=gettext_lazy("Status"),
        required=False,
        choices=[("", gettext_lazy("Any status")), *((name, label) for name, label, _ in STATES)],
    )


class SampleTable(Table):
    columns = (
        Column("name", gettext_lazy("Name"), ("name",), is_primary=True),
        Column("model", gettext_lazy("Model"), ("model", "name"), style="soft"),
        Column("started", gettext_lazy("Started"), ("started_at",), True, style="soft"),
        Column("speed", gettext_lazy("Tokens/s"), ("tokens_per_s",), True, is_number=True),
        Column("state", gettext_lazy("Status"), ("state",)),
        Column("action", gettext_lazy("Action"), is_hidden=True),
    )
    sort = "-started"
    page_size = 8

    def get_rows(self, chosen: Mapping[str, Any]) -> Sequence[Sample]:
        return [
            row
            for row in SAMPLES
            if chosen.get("q", "").lower() in row.name + row.model
            and chosen.get("state", row.state[0]) == row.state[0]
        ]


class SampleForm(forms.Form):
    """One field of each kind; the page shows it fresh and refused."""

    name = forms.CharField(label="Name", max_length=40, help_text="As others see it.")
    budget = DollarsField(label="Budget a month", required=False)
    role = forms.ChoiceField(
        label="Role", choices=[("viewer", "Viewer"), ("developer", "Developer"), ("admin", "Admin")]
    )
    notes = forms.CharField(label="Notes", required=False, widget=forms.Textarea({"rows": 3}))
    scopes = forms.MultipleChoiceField(
        label="Permissions",
        required=False,
        widget=forms.CheckboxSelectMultiple,
        choices=[("chat", "Chat"), ("embeddings", "Embeddings"), ("models", "List models")],
    )
    alerts = forms.BooleanField(label="Mail me when a limit is near", required=False)


@require_safe
def gallery(request: HttpRequest) -> HttpResponse:
    if "dialog" in request.GET:
        return render(request, "portal/design_dialog.html")
    refused = SampleForm({"name": "", "budget": "−3 apples", "role": "emperor"}, auto_id="wrong_%s")
    for level, text in (("success", "The key is revoked."), ("error", "The mail did not leave.")):
        getattr(messages, level)(request, text)
    context = {
        "replicas": SampleTable(request, form=SampleFilter(request.GET)),
        "nothing": NoTable(request, prefix="none"),
        "fresh": SampleForm(initial={"role": "developer"}),
        "refused": refused,
        **_charts(),
        **_changes(),
        "spark": WAVE,
        "samples": SNIPPETS,
        "tokens": TOKENS,
        "icons": ICONS,
    }
    return render(request, "portal/design.html", context)


class NoTable(SampleTable):
    def get_rows(self, chosen: Mapping[str, Any]) -> Sequence[Sample]:
        return []


def _charts() -> dict[str, Any]:
    days = [f"{(SOME_DAY - timedelta(days=ago)):%-d %b}" for ago in range(len(WAVE) - 1, -1, -1)]
    stacked = [
        Series(name, [value * weight * 1000 for value in WAVE])
        for name, weight in zip(MODELS, (9, 5, 2), strict=True)
    ]
    broken = [None if at in {9, 10, 11} else value for at, value in enumerate(WAVE)]
    slow = [value * 3 + 40 for value in WAVE]
    return {
        "bars": draw_bars(days, stacked[:1], write=thousands, write_scale=compact),
        "stacked": draw_bars(days, stacked, write=thousands, write_scale=compact),
        "line": draw_lines(
            days, [Series("Spent", [value * 910_000 for value in WAVE])], write=micros
        ),
        "lines": draw_lines(
            days,
            [Series("p50", broken), Series("p95", slow)],
            write=lambda ms: f"{thousands(ms)} ms",
        ),
    }


def _changes() -> dict[str, Change]:
    than = "than the month before"
    return {
        "more": Change(1_204_332, 1_020_000, "good", than),
        "worse": Change(412, 388, "bad", than),
        "less": Change(12_400, 19_000, "", than),
        "same": Change(7, 7, "good", than),
    }


SNIPPETS = (
    (
        "curl",
        "curl",
        'curl "$OPENAI_BASE_URL/models" \\\n  -H "Authorization: Bearer $OPENAI_API_KEY"',
    ),
    ("python", "Python", "from openai import OpenAI\n\nprint(OpenAI().models.list())"),
    (
        "javascript",
        "JavaScript",
        'import OpenAI from "openai";\n\nconsole.log(await new OpenAI().models.list());',
    ),
)
TOKENS = (
    "canvas", "surface", "surface-sunken", "surface-active", "line", "line-strong", "text",
    "text-soft", "text-faint", "accent", "accent-soft", "good", "good-soft", "info", "info-soft",
    "warn", "warn-soft", "danger", "danger-soft",
    "series-1", "series-2", "series-3", "series-4", "series-5", "series-6",
)  # fmt: skip
ICONS = (
    "house", "key-round", "folder", "chart-column", "users", "scroll-text", "settings", "search",
    "bot", "boxes", "file-stack", "receipt-text", "credit-card", "shield-check", "webhook",
    "activity", "gauge", "book-open", "circle-question-mark", "bell",
)  # fmt: skip
