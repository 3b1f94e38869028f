"""Agents use a fixed number of connections, however many sorties they run, and none starts without room in Postgres."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psutil
import pytest
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now
from django.test import override_settings

from agents import operations
from agents.models import Agent, AgentType
from fleet.postgres import pool
from missions import operations as missions
from missions.control import scaling
from missions.models import Sortie
from tests.support import console, fleet
from tests.support.processes import hosts
from tests.support.processes.hosts import Host
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("nodes")

SLOTS = 60
counts_sockets = pytest.mark.skipif(os.geteuid() != 0, reason="only root can list the sockets of an agent")


@pytest.fixture(scope="module")
def host(django_db_setup: None, django_db_blocker: Any) -> Iterator[Host]:
    host_group = hosts.Hosts()
    with hosts.database(django_db_blocker), hosts.control():
        try:
            yield host_group.add("here")
        finally:
            host_group.remove()


def connections(agent: Agent, host: Host) -> int:
    """The number of connections to Postgres of the agent's own process."""
    sockets = psutil.Process(agent.pid).net_connections("tcp")
    return sum(bool(socket.raddr) and socket.raddr.port == host.database.port for socket in sockets)


def room_for(count: int) -> Any:
    """Settings under which Postgres has room for exactly this many more agents."""
    more = (operations.capacity().room - count) * pool.CONNECTIONS_PER_AGENT
    return override_settings(FLEET_SPARE_CONNECTIONS=settings.FLEET_SPARE_CONNECTIONS + more)


@counts_sockets
def test_an_agent_with_sixty_sorties_uses_at_most_the_documented_connections(host: Host) -> None:
    hosts.agent_type("survey")
    (agent,) = hosts.spawn("survey", host, concurrency=SLOTS)
    sleeping = {"agent": "survey", "with": {"seconds": 600}}
    mission = fleet.launch({f"s{n}": sleeping for n in range(SLOTS)})
    until(lambda: Sortie.objects.filter(mission=mission, state="running").count() == SLOTS)
    until(lambda: connections(agent, host) <= pool.CONNECTIONS_PER_AGENT)
    assert connections(agent, host) <= pool.CONNECTIONS_PER_AGENT == 5
    missions.cancel(mission=mission.id)
    hosts.end_agents(agent)


@counts_sockets
def test_an_attempt_holds_no_connection_while_its_command_works(host: Host) -> None:
    hosts.agent_type("survey")
    (agent,) = hosts.spawn("survey", host, concurrency=8)
    working = {"agent": "survey", "run": "echo made > made; sleep 1", "outputs": ["made"]}
    mission = fleet.launch({f"s{n}": working for n in range(24)})
    most = 0
    while Sortie.objects.filter(mission=mission).exclude(state="succeeded").exists():
        most = max(most, connections(agent, host))
        assert not Sortie.objects.filter(mission=mission, state="failed").exists()
    assert most <= pool.CONNECTIONS_PER_AGENT
    hosts.end_agents(agent)


def test_a_spawn_that_would_exceed_the_connections_of_postgres_is_refused_with_the_numbers(host: Host) -> None:
    hosts.agent_type("survey")
    with (
        room_for(2),
        pytest.raises(operations.NoCapacity, match=r"has no connections for 3 more: Postgres allows \d+") as excinfo,
    ):
        operations.spawn(type="survey", count=3)
    assert f"each agent needs {pool.CONNECTIONS_PER_AGENT}" in str(excinfo.value)
    assert "room for 2 more" in str(excinfo.value)
    assert "max_connections" in excinfo.value.hint
    assert not Agent.objects.filter(type="survey", state__in=Agent.LIVE).exists()


def test_autoscaling_respects_the_bound(host: Host) -> None:
    hosts.agent_type("survey")
    AgentType.objects.filter(name="survey").update(autoscale=True)
    with room_for(0):
        mission = fleet.launch({"s": {"agent": "survey"}})
        Sortie.objects.filter(mission=mission).update(ready_at=Now() - timedelta(minutes=1))
        survey_decision = next(decision for decision in scaling.decisions() if decision.type == "survey")
        missions.cancel(mission=mission.id)
        AgentType.objects.filter(name="survey").update(autoscale=False)
    assert survey_decision.spawn == 0
    assert "or Postgres has no free connections" in survey_decision.why


def test_a_node_starts_no_kept_agent_without_connections_for_it(host: Host) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW max_connections")
        (most,) = cursor.fetchone()
    host_group = hosts.Hosts()
    try:
        hosts.agent_type("kept", agents=1)
        full = host_group.add("full", FLEET_SPARE_CONNECTIONS=str(most))
        until(lambda: "kept-1 is not started: Postgres allows" in full.log())
        assert not Agent.objects.filter(type="kept", node=full.node).exists()
    finally:
        AgentType.objects.filter(name="kept").update(agents=0)
        host_group.remove()


def test_the_command_says_why(host: Host) -> None:
    hosts.agent_type("survey")
    until(lambda: hosts.live("survey") == [] and hosts.live("kept") == [])  # otherwise their connections would be freed
    with room_for(0):
        result = console.manage("fleet_agents", "spawn", "survey")
    assert result.code != 0
    assert "has no connections for 1 more" in result.err
