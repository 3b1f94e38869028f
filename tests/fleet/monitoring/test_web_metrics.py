"""Metrics require a token, and are counted exactly in the database at each scrape."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from missions.models import Sortie
from tests.support import fleet, web

ENDS = ("succeeded", "failed", "skipped", "cancelled")

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_demand_counts_what_a_type_without_agents_could_start(client: Client) -> None:
    fleet.launch({"a": {"agent": "testing"}, "b": {"agent": "testing"}, "c": {"agent": "testing", "needs": ["a"]}})
    limited = {"agent": "testing", "concurrency": {"key": "one", "limit": 1}}
    fleet.launch({"x": limited, "y": limited})
    found = web.scrape(client)
    assert found['fleet_demand{type="testing"}'] == 3, "two sorties without needs, and one of those under the limit"
    assert found['fleet_demand{type="backend"}'] == 0


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer wrong", "Basic abc", "Bearer schl\u00fcssel"])
def test_metrics_require_the_token(client: Client, header: str) -> None:
    response = client.get("/metrics", headers={"Authorization": header} if header else {})
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert b"fleet_" not in response.content


def test_a_session_does_not_replace_the_token() -> None:
    assert web.superuser().get("/metrics").status_code == 401


def test_an_empty_fleet_has_zero_counts(client: Client) -> None:
    found = web.scrape(client)
    assert found['fleet_missions{state="running"}'] == 0
    assert found['fleet_queue_depth{type="backend"}'] == 0
    assert found['fleet_queue_oldest_wait_seconds{type="backend"}'] == 0


def test_metrics_count_the_rows_of_the_database(client: Client) -> None:
    web.ended_mission()
    fleet.launch({f"part{n}": {} for n in range(3)} | {"end": {"needs": ["part0"]}})
    Sortie.objects.filter(key="part1").update(ready_at="2020-01-01T00:00:00Z")
    found = web.scrape(client)
    assert found['fleet_missions{state="failed"}'] == 1
    assert found['fleet_missions{state="running"}'] == 1
    outcomes = {end: found[f'fleet_sorties_ended_total{{outcome="{end}",type="backend"}}'] for end in ENDS}
    assert outcomes == {"succeeded": 1, "failed": 1, "skipped": 1, "cancelled": 0}
    assert found['fleet_missions_ended_total{outcome="failed"}'] == 1
    assert found['fleet_sorties{state="pending"}'] == 1
    assert found['fleet_queue_depth{type="backend"}'] == 3
    assert found['fleet_queue_oldest_wait_seconds{type="backend"}'] > 86_400
    assert sum(value for name, value in found.items() if re.match(r"fleet_agents\{", name)) == 1
