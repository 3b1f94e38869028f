"""A cordoned node keeps its agents and gets no new ones, from any source, until it is uncordoned."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from django.db import connection

from agents import operations
from agents.models import Agent, AgentType
from fleet import errors
from fleet.events.models import Event
from missions.control import scaling
from tests.support import fleet
from tests.support.console import manage
from tests.support.processes import hosts
from tests.support.processes.hosts import Host
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("cordon")


@pytest.fixture(scope="module")
def host(host_group: hosts.Hosts) -> Host:
    return host_group.add("here")


@pytest.fixture
def agent_type(host: Host) -> Iterator[str]:
    hosts.agent_type("survey")
    yield "survey"
    operations.cordon(node=host.name, on=False)
    AgentType.objects.filter(name="survey").update(agents=0)
    hosts.end_agents(*hosts.live("survey"))
    until(lambda: not host.children())


def set_kept_agents(agents: int) -> None:
    AgentType.objects.filter(name="survey").update(agents=agents)


def idle() -> list[Agent]:
    return [agent for agent in hosts.live("survey") if agent.state == "idle"]


def names() -> list[str]:
    return [agent.name for agent in idle()]


def test_a_cordoned_node_keeps_and_restarts_its_agents_and_gets_no_new_ones(host: Host, agent_type: str) -> None:
    set_kept_agents(1)
    until(lambda: names() == ["survey-1@here"])
    result = manage("fleet_agents", "cordon", "here", "--reason", "A new disk")
    assert (result.code, "here takes no new agents." in result.err) == (0, True)
    second_result = manage("fleet_agents", "cordon", "here", "--json")
    assert ("already" in second_result.err, [(item["name"], item["cordoned"]) for item in second_result.json]) == (
        True,
        [("here", True)],
    )
    with pytest.raises(errors.Conflict, match="here is cordoned"):
        operations.spawn(type=agent_type, node="here")
    with pytest.raises(errors.Conflict, match="Every node that is up is cordoned"):
        operations.spawn(type=agent_type)
    set_kept_agents(3)
    (agent,) = hosts.live(agent_type)
    hosts.kill(agent)
    until(lambda: [item.name for item in idle() if item.id != agent.id] == ["survey-1@here"])
    assert len(host.children()) == 1
    assert Event.objects.filter(kind="node.cordoned", data__why="A new disk").count() == 1


def test_drained_agents_are_not_replaced_until_the_node_is_uncordoned(host: Host, agent_type: str) -> None:
    set_kept_agents(2)
    until(lambda: len(names()) == 2)
    operations.cordon(node="here", on=True)
    result = manage("fleet_agents", "drain", "--node", "here")
    assert (result.code, "cordon" in result.err) == (0, False)
    set_kept_agents(1)
    set_kept_agents(2)  # which would start them again
    assert manage("fleet_status", "--json").json["cordoned"] == ["here"]
    assert "here (cordoned)" in manage("fleet_status").out
    assert manage("fleet_agents", "status", "--json").json["nodes"][0]["cordoned"] is True
    host.stop()
    host.start()
    until(lambda: host.node.up)
    assert not Agent.objects.filter(type=agent_type, state__in=Agent.LIVE).exists()
    assert manage("fleet_agents", "uncordon", "here").code == 0
    until(lambda: names() == ["survey-1@here", "survey-2@here"])
    assert manage("fleet_status", "--json").json["cordoned"] == []


def test_a_drain_without_a_cordon_says_that_the_node_still_takes_agents(host: Host, agent_type: str) -> None:
    hosts.spawn(agent_type, host)
    result = manage("fleet_agents", "drain", "--node", "here")
    assert "./manage.py fleet_agents cordon here" in result.err
    assert hosts.spawn(agent_type, host)


def test_spawned_agents_come_back_after_a_killed_node_is_uncordoned(host: Host, agent_type: str) -> None:
    (agent,) = hosts.spawn(agent_type, host)
    operations.cordon(node="here", on=True)
    host.send(signal.SIGKILL)
    host.stop()
    host.start()
    until(lambda: not hosts.live(agent_type))
    operations.cordon(node="here", on=False)
    until(lambda: names() == [agent.name])


def test_the_autoscaler_skips_a_cordoned_node(host: Host, agent_type: str) -> None:
    operations.cordon(node="here", on=True)
    AgentType.objects.filter(name=agent_type).update(autoscale=True)
    fleet.launch({"s": {"agent": agent_type}})
    with connection.cursor() as cursor:
        cursor.execute("UPDATE missions_sortie SET ready_at = now() - interval '1 min' WHERE state = 'queued'")

    def passes_over_it() -> bool:
        current = next(decision for decision in scaling.decisions() if decision.type == agent_type)
        assert current.spawn == 0, current.why
        # Before that, an agent of the previous test may still be ending.
        return "no node has room for another agent" in current.why

    try:
        until(passes_over_it)
    finally:
        AgentType.objects.filter(name=agent_type).update(autoscale=False)


def test_an_unknown_node_is_named(host: Host) -> None:
    result = manage("fleet_agents", "cordon", "nowhere")
    assert result.code != 0
    assert "There is no node 'nowhere'" in result.err
