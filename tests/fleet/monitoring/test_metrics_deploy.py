"""The Prometheus and Grafana files in `deploy/`, and docs/metrics.md, use only series and labels that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from fleet.events.models import Event
from missions.control.alerts import RULES
from tests.support.paths import CHECKOUT

RULES_FILE = yaml.safe_load((CHECKOUT / "deploy" / "prometheus-rules.yml").read_text())
DASHBOARD = json.loads((CHECKOUT / "deploy" / "grafana-dashboard.json").read_text())
PAGE = (CHECKOUT / "docs" / "metrics.md").read_text()
QUERIES = re.findall(r"^\| [^|`]+ \| `(.+)` \|$", PAGE.partition("## Queries")[2], re.MULTILINE)
ADDED_BY_PROMETHEUS = {"instance", "job"}

Labels = dict[str, set[str]]


@pytest.fixture
def exported(django_db_serialized_rollback: None, transactional_db: None, client: Client) -> Labels:
    """The labels of each series at `/metrics`, of services too, though no supervisor runs here."""
    Event.objects.create(kind="service.restarted", data={"service": "web"})
    bearer = {"Authorization": f"Bearer {settings.FLEET_CREDENTIALS.metrics_token}"}
    text = client.get("/metrics", headers=bearer).content.decode()
    found: Labels = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
        if family.name.startswith("fleet_service_"):
            found.setdefault(family.name, {"service"})
    return found


def rules() -> Iterator[dict[str, Any]]:
    for group in RULES_FILE["groups"]:
        yield from group["rules"]


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]
    yield from QUERIES


def test_every_series_and_label_of_an_expression_is_exported(exported: Labels) -> None:
    assert len(list(expressions())) > 40
    assert len(QUERIES) >= 5
    for text in expressions():
        series = re.findall(r"\b(fleet_\w+)(?:\{([^}]*)\})?", text)
        assert series or "up{" in text, text
        labels = set().union(*(exported[name] for name, _ in series)) | ADDED_BY_PROMETHEUS
        for name, selectors in series:
            request = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selectors))
            assert request <= exported[name] | ADDED_BY_PROMETHEUS, text
        for grouped in re.findall(r"\b(?:by|without|on)\s*\(([^)]*)\)", text):
            assert {word.strip() for word in grouped.split(",")} <= labels, text


def test_expressions_are_balanced_and_counters_are_read_as_rates() -> None:
    for text in expressions():
        for opening, closing in ("()", "[]", "{}"):
            assert text.count(opening) == text.count(closing), text
        assert text.count('"') % 2 == 0, text
        for name in re.findall(r"\bfleet_\w+(?:_total|_bucket)\b(?:\{[^}]*\})?\[", text):
            before = text[: text.index(name)]
            assert re.search(r"(rate|increase)\($", before), text
        assert not re.search(r"\bfleet_\w+(?:_total|_bucket)\b(?:\{[^}]*\})?(?![\w{\[])", text), text


def test_rules_have_the_fields_that_prometheus_requires() -> None:
    assert set(RULES_FILE) == {"groups"}
    for rule in rules():
        kind = "alert" if "alert" in rule else "record"
        known = {"alert": {"alert", "expr", "for", "labels", "annotations"}, "record": {"record", "expr", "labels"}}
        assert set(rule) <= known[kind]
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
        if kind == "alert":
            assert rule["labels"]["severity"] in {"warning", "critical"}
            assert set(rule["annotations"]) == {"summary", "description"}
    names = [rule["alert"] for rule in rules() if "alert" in rule]
    assert len(names) == len(set(names))


def test_annotations_use_labels_that_their_expression_keeps() -> None:
    for rule in rules():
        used = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule.get("annotations", {}))))
        labels = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", rule["expr"])[:1])))
        whole = not re.search(r"\b(sum|max)\b", rule["expr"])
        assert used <= labels | ({"service", "instance"} if whole else set()), rule


def test_the_dashboard_fits_its_grid_and_panels_have_unique_ids() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_scrape_configuration_names_existing_paths_and_rules() -> None:
    config = yaml.safe_load((CHECKOUT / "deploy" / "prometheus.yml").read_text())
    assert all((CHECKOUT / "deploy" / name).exists() for name in config["rule_files"])
    (job,) = config["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    assert job["authorization"]["type"] == "Bearer"
    assert f"/deploy/{job['authorization']['credentials_file']}" in (CHECKOUT / ".gitignore").read_text()


def test_every_alert_of_the_control_loop_is_documented() -> None:
    page = (CHECKOUT / "docs" / "monitoring.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(RULES)
