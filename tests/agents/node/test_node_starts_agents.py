"""Failures to start agents: each leaves a row with a clear reason, and keeps the log."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings

from agents import operations
from agents.models import Agent, AgentType
from fleet import errors
from tests.support.processes import hosts
from tests.support.processes.hosts import Host
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("nodes")


@pytest.fixture(scope="module")
def start_failure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("failures") / "failure"


@pytest.fixture(scope="module")
def host(django_db_setup: None, django_db_blocker: Any, start_failure: Path) -> Iterator[Host]:
    """A node that may have three agents."""
    host_group = hosts.Hosts()
    with hosts.database(django_db_blocker), hosts.control(), override_settings(FLEET_SPAWN_S=5.0):
        try:
            yield host_group.add(
                "here",
                FLEET_NODE_MAX_AGENTS="3",
                FLEET_CALLABLES="tests.support.processes.start_failures",
                FLEET_TEST_START_FAILURE=str(start_failure),
            )
        finally:
            host_group.remove()


@pytest.fixture
def agent_type(host: Host, start_failure: Path) -> Iterator[str]:
    hosts.agent_type("survey")
    yield "survey"
    start_failure.unlink(missing_ok=True)
    AgentType.objects.filter(name="survey").update(agents=0, enabled=True)
    hosts.end_agents(*hosts.live("survey"))
    until(lambda: not host.children())


@pytest.mark.parametrize(
    ("failure", "reason", "message"),
    [
        ("die", "Its process ended with exit code 3 before it reported", "The test lets this agent die."),
        ("hang", "It never reported; see its log.", "The test lets this agent hang."),
    ],
)
def test_an_ordered_agent_that_does_not_come_up_has_failed_and_is_not_tried_again(
    host: Host, agent_type: str, start_failure: Path, failure: str, reason: str, message: str
) -> None:
    start_failure.write_text(failure)
    (agent,) = operations.spawn(type=agent_type, node=host.name)
    until(lambda: Agent.objects.get(id=agent.id).state == "failed")
    agent.refresh_from_db()
    assert agent.reason.startswith(reason), agent.reason
    assert message in host.agent_log(agent)
    until(lambda: "".join(agent.log.values_list("text", flat=True)).find(message) >= 0)
    until(lambda: not host.children())
    start_failure.unlink()
    (next_agent,) = hosts.spawn(agent_type, host)
    assert Agent.objects.filter(type=agent_type, spawned_at__gt=agent.spawned_at).count() == 1, (
        "only the agent that was ordered now"
    )
    assert next_agent.ordinal == agent.ordinal


def test_an_agent_that_its_type_keeps_is_tried_again_until_it_comes_up(
    host: Host, agent_type: str, start_failure: Path
) -> None:
    before = set(Agent.objects.filter(type=agent_type).values_list("id", flat=True))
    start_failure.write_text("die")
    AgentType.objects.filter(name=agent_type).update(agents=1)
    until(lambda: Agent.objects.filter(type=agent_type, state="failed", crashes=1).exclude(id__in=before).exists())
    start_failure.unlink()
    (agent,) = until(lambda: list(Agent.objects.filter(type=agent_type, state="idle")))
    assert agent.crashes >= 2
    assert agent.ordinal == 1


def test_a_node_takes_no_more_agents_than_it_may_have(host: Host, agent_type: str) -> None:
    hosts.spawn(agent_type, host, count=2)
    with pytest.raises(errors.Conflict, match="Node here has no room for 2 more: 2 of at most 3 agents"):
        operations.spawn(type=agent_type, node=host.name, count=2)
    assert len(hosts.live(agent_type)) == 2, "all requested agents, or none"
    AgentType.objects.filter(name=agent_type).update(agents=9)
    until(lambda: len(hosts.live(agent_type)) == 3)
    until(lambda: Agent.objects.filter(type=agent_type, state="idle").count() == 3)
    assert len(host.children()) == 3


def test_concurrent_spawns_fill_exactly_the_available_places(host: Host, agent_type: str) -> None:
    items: list[str] = []
    ready = threading.Barrier(6)

    def spawn() -> None:
        ready.wait()
        try:
            operations.spawn(type=agent_type)
            items.append("spawned")
        except errors.Conflict:
            items.append("full")
        finally:
            connection.close()

    threads = [threading.Thread(target=spawn) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(items) == ["full"] * 3 + ["spawned"] * 3
    until(lambda: [agent.state for agent in hosts.live(agent_type)] == ["idle"] * 3)
    assert sorted(agent.ordinal for agent in hosts.live(agent_type)) == [1, 2, 3]
    assert host.children() == {agent.pid for agent in hosts.live(agent_type)}


def test_the_limit_of_a_type_holds_across_the_whole_fleet(host: Host, agent_type: str) -> None:
    AgentType.objects.filter(name=agent_type).update(max_agents=1)
    try:
        hosts.spawn(agent_type, host)
        with pytest.raises(errors.Conflict, match="may have 1 agents in the whole fleet, and has 1"):
            operations.spawn(type=agent_type)
    finally:
        AgentType.objects.filter(name=agent_type).update(max_agents=0)


def test_spawning_an_agent_does_not_replace_one_that_waits_after_a_crash(
    host: Host, agent_type: str, start_failure: Path
) -> None:
    (first,) = hosts.spawn(agent_type, host)
    start_failure.write_text("die")
    hosts.kill(first)
    failed_agents = Agent.objects.filter(type=agent_type, state="failed", crashes=1, spawned_at__gt=first.spawned_at)
    until(lambda: failed_agents.exists())  # for a second, its post has no agent
    start_failure.unlink()
    (second,) = hosts.spawn(agent_type, host)
    assert second.ordinal == first.ordinal
    until(lambda: [agent.state for agent in hosts.live(agent_type)] == ["idle"] * 2)
    assert host.children() == {agent.pid for agent in hosts.live(agent_type)}


def test_a_type_that_is_edited_changes_what_its_nodes_keep(host: Host, agent_type: str) -> None:
    def live_agents() -> list[tuple[int, str, int]]:
        return [(agent.ordinal, agent.state, agent.concurrency) for agent in hosts.live(agent_type)]

    of_type = AgentType.objects.filter(name=agent_type)
    of_type.update(agents=2)
    until(lambda: live_agents() == [(1, "idle", 1), (2, "idle", 1)])
    first, second = hosts.live(agent_type)
    of_type.update(agents=1, concurrency=3)
    until(lambda: live_agents() == [(1, "idle", 1)])
    second.refresh_from_db()
    assert (second.state, second.order) == ("terminated", "drain")
    hosts.kill(first)
    until(lambda: live_agents() == [(1, "idle", 3)])  # a successor uses the current row of the type
    hosts.spawn(agent_type, host)
    of_type.update(enabled=False)
    until(lambda: live_agents() == [])  # also the one that was ordered
    with pytest.raises(errors.Conflict, match="is disabled"):
        operations.spawn(type=agent_type)
    of_type.update(enabled=True)
    until(lambda: live_agents() == [(1, "idle", 3)])
