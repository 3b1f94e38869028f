"""A type whose queue waits while all slots are busy gets more agents, within its limits. Only idle agents are ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from agents import operations as agents
from agents.models import Agent, AgentType, Node
from fleet import ids
from missions.control import scaling
from missions.control.alerts import AlertMonitor
from missions.control.scaling import Deaths, ScalingFacts, decide
from missions.models import Alert
from tests.support import fleet
from tests.support.console import manage

BUSY = ScalingFacts(
    type="backend", on=True, max_agents=0, concurrency=2, live=1, starting=0, slots=2, running=2, queued=9, oldest_s=60
)


def decision_for(*, room: int = 10, **facts: Any) -> tuple[int, int]:
    found = decide(facts=replace(BUSY, **facts), room=room, up_after_s=5)
    return found.spawn, len(found.drain)


@pytest.mark.parametrize(
    ("facts", "spawn"),
    [
        ({}, 1),
        ({"live": 4, "slots": 8, "running": 8}, 4),
        ({"live": 4, "slots": 8, "running": 8, "queued": 3}, 2),
        ({"live": 0, "slots": 0, "running": 0}, 1),
        ({"running": 1}, 0),
        ({"starting": 1}, 0),
        ({"oldest_s": 2}, 0),
        ({"queued": 0}, 0),
        ({"max_agents": 1}, 0),
        ({"live": 4, "slots": 8, "running": 8, "max_agents": 5}, 1),
        ({"room": 0}, 0),
    ],
)
def test_agents_are_added_only_where_they_help(facts: dict[str, Any], spawn: int) -> None:
    room = facts.pop("room", 10)
    assert decision_for(room=room, **facts) == (spawn, 0)


@pytest.mark.parametrize(("count", "pause_s"), [(1, 10), (2, 20), (3, 40), (6, 320), (7, 600), (50, 600), (5_000, 600)])
def test_after_early_deaths_a_single_agent_is_started_after_a_growing_pause(count: int, pause_s: float) -> None:
    busy = {"live": 4, "slots": 8, "running": 8}
    soon = Deaths(count=count, last_s_ago=pause_s - 1, last="agt_x")
    assert decision_for(**busy, deaths=soon) == (0, 0)
    assert decision_for(**busy, deaths=replace(soon, last_s_ago=pause_s + 1)) == (1, 0)
    assert decision_for(**busy) == (4, 0)


@given(
    live=st.integers(0, 50), most=st.integers(0, 50), queued=st.integers(0, 1_000), room=st.integers(-5, 50),
    concurrency=st.integers(1, 8), running=st.integers(0, 100), idle=st.integers(0, 5),
)  # fmt: skip
def test_no_limit_is_ever_exceeded(
    live: int, most: int, queued: int, room: int, concurrency: int, running: int, idle: int
) -> None:
    facts = replace(
        BUSY, live=live, max_agents=most, queued=queued, concurrency=concurrency, slots=live * concurrency, running=running,
        idle=tuple(ids.new() for _ in range(idle)),
    )  # fmt: skip
    found = decide(facts=facts, room=room, up_after_s=5)
    assert 0 <= found.spawn <= max(room, 0)
    assert not most or found.spawn == 0 or live + found.spawn <= most
    assert not (found.spawn and found.drain)
    assert not (queued and found.drain)
    assert found.why


@pytest.fixture
def node(transactional_db: None) -> Node:
    return agents.join(name="a host", pid=1, start_time=0.0)


def busy_agent(node: Node, *, ordinal: int, running: int, quiet_s: int = 0) -> Agent:
    agent = agents.create_agent(type=AgentType.objects.get(name="backend"), node=node, ordinal=ordinal, concurrency=2)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE agents_agent SET state = %s, running = %s, pid = 1, spawned_at = now() - make_interval(secs => %s)"
            " WHERE id = %s",
            ["busy" if running else "idle", running, quiet_s, agent.id],
        )
    return agent


def wait_long() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE missions_sortie SET ready_at = now() - interval '1 min'")


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_autoscaling_is_off_by_default_and_says_what_it_would_do(node: Node) -> None:
    busy_agent(node, ordinal=1, running=2)
    fleet.launch({f"s{n}": {} for n in range(6)})
    wait_long()
    assert scaling.scale() == []
    result = {agent["type"]: agent for agent in manage("fleet_agents", "autoscale", "--json").json}
    assert (result["backend"]["on"], result["backend"]["spawn"]) == (False, 1)
    assert "all 2 slots in use" in manage("fleet_agents", "autoscale", "backend").out
    assert manage("fleet_agents", "autoscale", "--on").code != 0
    manage("fleet_agents", "autoscale", "backend", "--on")
    assert [(item.type, item.spawn) for item in scaling.scale()] == [("backend", 1)]
    assert Agent.objects.filter(type="backend", state="spawning").count() == 1
    assert scaling.scale() == []  # one agent is starting


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_only_idle_agents_beyond_the_configured_number_are_ended(node: Node) -> None:
    AgentType.objects.filter(name="backend").update(autoscale=True)
    kept_agent = busy_agent(node, ordinal=1, running=0, quiet_s=3_600)
    working = busy_agent(node, ordinal=2, running=1, quiet_s=3_600)
    fresh = busy_agent(node, ordinal=3, running=0)
    quiet_agent = busy_agent(node, ordinal=4, running=0, quiet_s=3_600)
    assert [item.drain for item in scaling.scale()] == [(quiet_agent.id,)]
    orders = dict(Agent.objects.values_list("id", "order"))
    assert [orders[agent.id] for agent in (kept_agent, working, fresh, quiet_agent)] == ["", "", "", "drain"]


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_scaling_stops_when_agents_die_at_once_and_says_why(node: Node) -> None:
    AgentType.objects.filter(name="backend").update(autoscale=True)
    busy_agent(node, ordinal=1, running=2)
    fleet.launch({f"s{n}": {} for n in range(9)})
    wait_long()

    def dies() -> Agent:
        (agent,) = Agent.objects.filter(type="backend", state="spawning")
        agents.end(agents=[agent.id], state=Agent.State.FAILED, reason="Its process ended with exit code 1.")
        return agent

    def later(seconds: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE agents_agent SET ended_at = ended_at - make_interval(secs => %s)", [seconds])

    assert [item.spawn for item in scaling.scale()] == [1]
    first = dies()
    assert scaling.scale() == []
    (document,) = [item for item in manage("fleet_agents", "autoscale", "--json").json if item["type"] == "backend"]
    assert document["spawn"] == 0
    assert f"an agent died before it ran anything (the last: {first.ref}, Its process" in document["why"]
    AlertMonitor().check()
    (alert,) = Alert.objects.filter(rule="agents_failing", subject="backend")
    assert first.ref in alert.message
    later(11)
    assert [item.spawn for item in scaling.scale()] == [1]
    dies()
    later(11)
    assert scaling.scale() == [], "the second pause is longer"
    later(10)
    assert [item.spawn for item in scaling.scale()] == [1]
    Agent.objects.filter(state="spawning").update(state="busy", running=2, settled=1)
    assert [item.spawn for item in scaling.scale()] == [2], "one agent works: the number of agents may double"


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_agents_that_died_with_their_node_do_not_delay_scaling(node: Node) -> None:
    AgentType.objects.filter(name="backend").update(autoscale=True)
    quiet_agent = busy_agent(node, ordinal=1, running=0)
    agents.end(agents=[quiet_agent.id], state=Agent.State.LOST, reason="Its heartbeat stopped.")
    fleet.launch({"s": {}})
    wait_long()
    Node.objects.update(heartbeat_at=quiet_agent.heartbeat_at, up=False)  # no heartbeat since then
    other = agents.join(name="another host", pid=2, start_time=0.0)
    assert [item.spawn for item in scaling.scale()] == [1]
    assert Agent.objects.get(state="spawning").node == other
