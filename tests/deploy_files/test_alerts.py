"""Every alert has a runbook, and asks only for what the platform counts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

import api.errors
import api.http
import inference.errors
import tenants.authentication
import tenants.errors
from billing import metrics as billing_metrics
from inference import metrics as gateway_metrics
from inference.answers import metrics as answer_metrics
from inference.batches import metrics as batch_metrics
from inference.loop_metrics import LoopHistogram
from tenants.admission import metrics as admission_metrics
from tests.deploy_files.containers import ROOT, compose
from workers.control import tasks as control_metrics
from workers.engine import metrics as replica_metrics
from workers.jobs import metrics as job_metrics

RUNBOOKS = ROOT / "docs" / "runbooks"
FOLDER = ROOT / "deploy" / "prometheus"
MODULES = (
    admission_metrics, gateway_metrics, replica_metrics, billing_metrics, control_metrics, job_metrics,
    batch_metrics, answer_metrics
)  # fmt: skip
# PromQL's own words in our expressions; "up" is Prometheus's own series.
WORDS = {
    "absent", "and", "by", "deriv", "histogram_quantile", "increase", "max", "or", "rate", "sum", "up"
}  # fmt: skip
# What Prometheus adds to a series when it scrapes.
ADDED_LABELS = {"job", "instance", "le"}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules()}


def series_of(metric: MetricWrapperBase | LoopHistogram) -> dict[str, set[str]]:
    """The names under which a metric is exposed, with their labels."""
    if isinstance(metric, LoopHistogram):
        return {
            f"{metric._name}_{part}": set(metric._labels) for part in ("bucket", "count", "sum")
        }
    name, labels = metric._name, set(metric._labelnames)
    if isinstance(metric, Counter):
        return {f"{name}_total": labels}
    if isinstance(metric, Histogram):
        return {f"{name}_{part}": labels for part in ("bucket", "count", "sum")}
    assert isinstance(metric, Gauge)
    return {name: labels}


def exposed() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for module in MODULES:
        for value in vars(module).values():
            if isinstance(value, MetricWrapperBase | LoopHistogram):
                found |= series_of(value)
    return found


def asked_for(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each series of an expression, with the labels it selects by."""
    for name, selector in re.findall(r"\b([a-z_:][a-z0-9_:]*)\b(\{[^}]*\})?", plain(expression)):
        if name not in WORDS:
            yield name, dict(re.findall(r'(\w+)(?:=~|!=|!~|=)"([^"]*)"', selector))


def plain(expression: str) -> str:
    """Without ranges and ``by (…)`` clauses."""
    return re.sub(r"\[\w+\]|\bby \([^)]*\)", "", expression)


def grouped_by(expression: str) -> set[str]:
    return {
        label
        for labels in re.findall(r"\bby \(([^)]*)\)", expression)
        for label in re.split(r",\s*", labels)
    }


@pytest.mark.parametrize("name", ALERTS)
def test_alert_names_series_and_labels_that_exist(name: str) -> None:
    known = exposed()
    expression = ALERTS[name]["expr"]
    labels: set[str] = set()
    for series, selected in asked_for(expression):
        assert series in known, series
        assert set(selected) <= known[series], series
        labels |= known[series]
    assert grouped_by(expression) <= labels | ADDED_LABELS
    shown = set(re.findall(r"\$labels\.(\w+)", ALERTS[name]["annotations"]["summary"]))
    assert shown <= labels | ADDED_LABELS


@pytest.mark.parametrize("name", ALERTS)
def test_alert_has_a_runbook_that_says_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"page", "warning"}
    assert rule["annotations"]["runbook"] == f"docs/runbooks/{name}.md"
    page = (RUNBOOKS / f"{name}.md").read_text()
    for heading in ("## What it means", "## How to check", "## What to do"):
        assert heading in page, heading


def test_no_runbook_is_without_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(ALERTS)


def test_codes_and_jobs_exist() -> None:
    codes = {code for module in ERRORS for code in codes_in(module)}
    jobs = {
        scrape["job_name"]
        for scrape in yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    }
    asked = 0
    for rule in ALERTS.values():
        for code in re.findall(r'code=~?"([^"]*)"', rule["expr"]):
            asked += 1
            assert set(code.split("|")) <= codes
        assert set(re.findall(r'job="([^"]*)"', rule["expr"])) <= jobs
    assert asked


def test_scraped_addresses_are_services() -> None:
    services = set(compose()["services"])
    for scrape in yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]:
        for static in scrape.get("static_configs", ()):
            assert {target.split(":")[0] for target in static["targets"]} <= services
        for found in scrape.get("dns_sd_configs", ()):
            assert set(found["names"]) <= services


ERRORS = (
    tenants.errors,
    tenants.authentication,
    inference.errors,
    api.errors,
    api.http,
)


def codes_in(module: ModuleType) -> set[str]:
    """The codes of a module's errors."""
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    return {code for value in classes if isinstance(code := getattr(value, "code", None), str)}


def test_reader_of_expressions_finds_what_is_wrong() -> None:
    """A control: a misspelt series or label would not pass unseen."""
    found = dict(asked_for('sum by (le) (rate(no_such_total{a="b"}[5m])) > 2 or absent(up == 1)'))
    assert found == {"no_such_total": {"a": "b"}}
    assert "no_such_total" not in exposed()
