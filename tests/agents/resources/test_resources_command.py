"""`fleet_agents resources`: what live agents use now and used in the last hour, and one agent's history."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from agents import queries
from agents.models import Agent, AgentType, Node, Sample
from fleet.console import sparklines
from tests.support.console import manage

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture
def node() -> Node:
    return Node.objects.create(name="host", pid=1, start_time=0.0)


def agent(node: Node, *, type: str = "backend", state: str = "idle") -> Agent:
    ended_at = None if state in Agent.LIVE else timezone.now()
    return Agent.objects.create(
        type=AgentType.objects.get(name=type), node=node, ordinal=1, pid=1, state=state, ended_at=ended_at
    )


def take(agent: Agent, *, minutes_ago: float, cpu: float, memory: int, step_s: int = 10) -> None:
    at = timezone.now() - timedelta(minutes=minutes_ago)
    Sample.objects.create(agent=agent, at=at, step_s=step_s, cpu=cpu, memory_bytes=memory, processes=3)


def test_the_table_shows_current_use_the_peak_and_the_last_hour(node: Node) -> None:
    item = agent(node)
    agent(node, type="testing")
    agent(node, type="frontend", state="lost")
    take(item, minutes_ago=600, cpu=0.9, memory=900_000_000, step_s=600)
    take(item, minutes_ago=59, cpu=0.0, memory=100_000_000)
    take(item, minutes_ago=3, cpu=2.0, memory=400_000_000)
    take(item, minutes_ago=0.1, cpu=1.0, memory=250_000_000)
    take(item, minutes_ago=0.2, cpu=0.0, memory=250_000_000, step_s=30)
    head, first, second = manage("fleet_agents", "resources").out.splitlines()
    assert head.split() == ["agent", "cpu", "memory", "peak", "proc", "cpu,", "last", "hour"]
    assert first.split()[:7] == ["backend-1@host", "1.00", "250", "MB", "900", "MB", "3"]
    assert first.endswith("▁" + " " * 27 + "█▂")
    assert second == "testing-1@host  not measured yet"
    document = manage("fleet_agents", "resources", "--json").json
    assert [item["name"] for item in document] == ["backend-1@host", "testing-1@host"]
    assert (document[0]["cpu"], document[0]["memory_bytes"], document[0]["peak_bytes"]) == (
        1.0,
        250_000_000,
        900_000_000,
    )
    assert (document[0]["hour"][0], document[0]["hour"][-2:], len(document[0]["hour"])) == (0.0, [2.0, 0.25], 30)
    assert (document[1]["at"], document[1]["cpu"], document[1]["hour"]) == (None, None, [])
    assert manage("fleet_agents", "resources", "--json", "--type", "testing").json == document[1:]


def test_one_agent_has_its_history_in_steps_that_fit_a_screen(node: Node) -> None:
    item = agent(node)
    for minute in range(200):
        take(item, minutes_ago=minute, cpu=0.5 if minute % 2 else 1.5, memory=minute * 1_000_000)
    title, head, *rows = manage("fleet_agents", "resources", "backend-1").out.splitlines()
    assert title.startswith(f"{item.ref}  backend-1@host  idle")
    assert head.split() == ["since", "(UTC)", "cpu", "memory", "proc"]
    assert 200 / 10 <= len(rows) <= 200 / 5 + 2
    assert {row.split()[2] for row in rows[1:-1]} <= {"0.90", "1.00", "1.10"}
    document = manage("fleet_agents", "resources", item.ref, "--json").json
    assert [row["memory_bytes"] for row in document["samples"]] == [n * 1_000_000 for n in reversed(range(200))]
    assert set(document["samples"][0]) == {"at", "step_s", "cpu", "memory_bytes", "processes"}


def test_an_agent_without_samples_is_reported_and_an_unknown_one_is_an_error(node: Node) -> None:
    item = agent(node)
    Agent.objects.create(type=AgentType.objects.get(name="testing"))
    assert "external: no node measures it" in manage("fleet_agents", "resources").out
    assert "has no samples" in manage("fleet_agents", "resources", item.ref).err
    assert manage("fleet_agents", "resources", item.ref, "--json").json["samples"] == []
    assert manage("fleet_agents", "resources", "nobody").code == 1


def test_usage_costs_two_queries_however_many_agents(node: Node, django_assert_num_queries: object) -> None:
    agents = [agent(node) for _ in range(20)]
    for item in agents:
        take(item, minutes_ago=1, cpu=0.1, memory=1)
    with django_assert_num_queries(2):  # type: ignore[operator]
        assert set(queries.usage(agents)) == {item.id for item in agents}


def test_a_sparkline_shows_empty_full_and_partial_values() -> None:
    assert sparklines.line([None, 0.0, 0.5, 1.0, 7.0, -1.0], top=1.0) == " ▁▅██▁"
