"""A node with FLEET_TYPES has agents of those types only, from any source; the other nodes serve every type."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection

from agents import operations
from agents.models import AgentType
from fleet import errors
from missions.control import scaling
from tests.support import fleet
from tests.support.console import manage
from tests.support.processes import hosts
from tests.support.processes.hosts import Host
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("types of nodes")


@pytest.fixture(scope="module")
def host(host_group: hosts.Hosts) -> Host:
    hosts.agent_type("survey")
    hosts.agent_type("digging")
    return host_group.add("here", FLEET_TYPES="survey, mapping")


@pytest.fixture(autouse=True)
def nothing_is_left(host: Host) -> Iterator[None]:
    yield
    AgentType.objects.filter(name__in=["survey", "digging"]).update(agents=0, autoscale=False)
    hosts.end_agents(*hosts.live("survey"))
    until(lambda: not host.children())


def test_it_keeps_agents_of_its_types_and_of_no_other(host: Host) -> None:
    AgentType.objects.filter(name__in=["survey", "digging"]).update(agents=1)
    until(lambda: [agent.name for agent in hosts.live("survey") if agent.state == "idle"] == ["survey-1@here"])
    assert hosts.live("digging") == []
    status = manage("fleet_agents", "status", "--json").json
    assert [node["types"] for node in status["nodes"]] == [["survey", "mapping"]]
    assert "serves only survey, mapping" in manage("fleet_agents", "status").out


def test_a_spawn_of_another_type_is_refused(host: Host) -> None:
    with pytest.raises(errors.Conflict, match="No node that takes new agents serves the type digging"):
        operations.spawn(type="digging")
    with pytest.raises(errors.Conflict, match="Node here does not serve the type digging"):
        operations.spawn(type="digging", node="here")
    assert hosts.spawn("survey", host)


def test_a_spawn_goes_to_a_node_that_serves_the_type(host: Host, host_group: hosts.Hosts) -> None:
    second_host = host_group.add("there")
    try:
        assert {agent.node.name for agent in operations.spawn(type="digging", count=2) if agent.node} == {"there"}
    finally:
        hosts.end_agents(*hosts.live("digging"))
        host_group.drop(second_host)


def test_the_autoscaler_counts_only_places_where_the_type_is_served(host: Host) -> None:
    AgentType.objects.filter(name__in=["survey", "digging"]).update(autoscale=True)
    fleet.launch({"here": {"agent": "survey"}, "nowhere": {"agent": "digging"}})
    with connection.cursor() as cursor:
        cursor.execute("UPDATE missions_sortie SET ready_at = now() - interval '1 min'")
    decisions = {decision.type: decision for decision in scaling.decisions()}
    assert "no node has room for another agent" in decisions["digging"].why
    assert decisions["digging"].spawn == 0
