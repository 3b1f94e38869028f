"""Orders to agents: in sequence, concurrent, to agents that are ending, and to all agents of a node."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from agents import operations
from agents.models import Agent, Node
from fleet.events.models import Event
from missions.models import Sortie
from tests.support import fleet
from tests.support.processes import hosts
from tests.support.processes.hosts import Host
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("orders")
Order = Agent.Order


@pytest.fixture(scope="module")
def host(host_group: hosts.Hosts) -> Host:
    return host_group.add("here")


@pytest.fixture
def agent_type(host: Host) -> Iterator[str]:
    hosts.agent_type("survey")
    yield "survey"
    hosts.end_agents(*hosts.live("survey"))
    until(lambda: not host.children())


def order(order_kind: Agent.Order, *agents: Agent) -> list[Agent]:
    return operations.order(agents=[agent.id for agent in agents], order=order_kind, reason="A test.")


def state(agent: Agent) -> str:
    return Agent.objects.get(id=agent.id).state


def waiting_work(agent_type: str, flag: Path) -> dict[str, Any]:
    """Work whose attempts all wait until a file exists."""
    return {"agent": agent_type, "run": f"until [ -e {flag} ]; do sleep 0.05; done"}


def test_a_harder_order_follows_a_softer_one_and_a_softer_one_is_refused(
    host: Host, agent_type: str, tmp_path: Path
) -> None:
    (agent,) = hosts.spawn(agent_type, host)
    flag = tmp_path / "go"
    mission = fleet.launch({"one": waiting_work(agent_type, flag)}, folder=str(tmp_path))
    until(lambda: hosts.running(mission))
    assert [item.id for item in order(Order.DRAIN, agent)] == [agent.id]
    until(lambda: state(agent) == "draining")
    assert order(Order.DRAIN, agent) == []
    assert order(Order.RESTART, agent) == []
    assert [item.id for item in order(Order.TERMINATE, agent)] == [agent.id]
    assert order(Order.TERMINATE, agent) == []
    until(lambda: state(agent) == "terminated")
    (sortie,) = Sortie.objects.filter(mission=mission)
    assert (sortie.state, sortie.attempt, sortie.tries, sortie.rescues) == ("queued", 1, 0, 0), (
        "it was returned after FLEET_DRAIN_S, and not lost"
    )
    flag.touch()
    hosts.spawn(agent_type, host)
    assert hosts.wait(mission).state == "succeeded"


def test_two_orders_at_once_end_an_agent_once(host: Host, agent_type: str) -> None:
    (agent,) = hosts.spawn(agent_type, host)
    counts: list[int] = []
    ready = threading.Barrier(4)

    def give_order(order_kind: Agent.Order) -> None:
        ready.wait()
        counts.append(len(order(order_kind, agent)))
        connection.close()

    threads = [
        threading.Thread(target=give_order, args=[order_kind])
        for order_kind in [Order.DRAIN, Order.DRAIN, Order.NOW, Order.NOW]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= sum(counts) <= 2, "one of the orders to end now, and at most one of the drains before it"
    until(lambda: state(agent) == "terminated")
    assert Event.objects.filter(subject=agent.id, kind="agent.terminated").count() == 1


def test_an_order_for_an_agent_that_ends_meanwhile_changes_nothing(host: Host, agent_type: str) -> None:
    (agent,) = hosts.spawn(agent_type, host)
    host.halt()  # so that the order meets a dead agent whose row is still live
    hosts.kill(agent)
    assert len(order(Order.TERMINATE, agent)) == 1
    host.send(signal.SIGCONT)
    until(lambda: state(agent) in {"terminated", "lost"})
    states = ["idle"] if state(agent) == "lost" else []  # it already has a successor
    until(lambda: [item.state for item in hosts.live(agent_type)] == states and len(host.children()) == len(states))
    assert order(Order.NOW, agent) == []


def test_an_agent_that_is_ordered_to_end_before_its_start_is_not_started(host: Host, agent_type: str) -> None:
    host.halt()
    (agent,) = operations.spawn(type=agent_type, node=host.name)
    order(Order.TERMINATE, agent)
    host.send(signal.SIGCONT)
    until(lambda: state(agent) == "terminated")
    agent.refresh_from_db()
    assert (agent.pid, host.children()) == (None, set())


def test_orders_for_a_node_that_is_down_are_carried_out_when_it_is_back(
    host_group: hosts.Hosts, agent_type: str
) -> None:
    brief = host_group.add("brief")
    stays, goes = hosts.spawn(agent_type, brief, count=2)
    brief.halt()
    (new,) = operations.spawn(type=agent_type, node="brief")  # the node does not yet count as down
    assert [agent.id for agent in order(Order.TERMINATE, goes)] == [goes.id]
    brief.send(signal.SIGKILL)  # only now: its agents end with it
    assert brief.process is not None
    brief.process.wait()
    brief.start()
    until(lambda: state(new) == "idle")
    until(lambda: not {state(stays), state(goes)} & {"spawning", "idle", "busy", "draining"})
    until(
        lambda: (
            {(agent.ordinal, agent.state) for agent in hosts.live(agent_type)}
            == {(stays.ordinal, "idle"), (new.ordinal, "idle")}
        ),
        otherwise=lambda: f"the agents are {[(agent.name, agent.state) for agent in hosts.live(agent_type)]}",
    )
    assert brief.children() == {agent.pid for agent in hosts.live(agent_type)}
    host_group.drop(brief)


def test_a_restart_starts_a_successor_in_the_same_place(host: Host, agent_type: str) -> None:
    (agent,) = hosts.spawn(agent_type, host)
    order(Order.RESTART, agent)
    (successor,) = until(
        lambda: [item for item in hosts.live(agent_type) if item.id != agent.id and item.state == "idle"]
    )
    assert (successor.ordinal, successor.crashes, state(agent)) == (agent.ordinal, 0, "terminated")


def test_a_node_is_drained_without_stopping_its_sorties(
    host_group: hosts.Hosts, host: Host, agent_type: str, tmp_path: Path
) -> None:
    leaving = host_group.add("leaving")
    flag = tmp_path / "go"
    agents = hosts.spawn(agent_type, leaving, count=2)
    mission = fleet.launch(
        {"one": waiting_work(agent_type, flag), "two": waiting_work(agent_type, flag)}, folder=str(tmp_path)
    )
    until(lambda: len(hosts.running(mission)) == 2)
    order(Order.DRAIN, *agents)
    until(lambda: {state(agent) for agent in agents} == {"draining"})
    more = fleet.launch({"three": {"agent": agent_type, "run": "true"}})
    hosts.spawn(agent_type, host)
    assert hosts.wait(more).state == "succeeded"
    flag.touch()
    assert hosts.wait(mission).state == "succeeded"
    assert {number for _, number, _ in hosts.attempts(mission)} == {1}
    until(lambda: {state(agent) for agent in agents} == {"terminated"})
    until(lambda: not leaving.children())
    host_group.drop(leaving)


def test_a_terminated_node_lets_its_sorties_end_in_time_and_returns_the_others(
    host_group: hosts.Hosts, host: Host, agent_type: str, tmp_path: Path
) -> None:
    ending = host_group.add("ending")
    agents = hosts.spawn(agent_type, ending, count=2)
    never = tmp_path / "never"
    sorties = {"long": waiting_work(agent_type, never), "short": {"agent": agent_type, "run": "sleep 0.8"}}
    mission = fleet.launch(sorties, folder=str(tmp_path))
    until(lambda: len(hosts.running(mission)) == 2)
    ending.send(signal.SIGTERM)
    assert ending.process is not None
    assert ending.process.wait(60) == 0
    assert {state(agent) for agent in agents} == {"terminated"}
    assert not any(map(hosts.alive, agents))
    rows = Sortie.objects.filter(mission=mission).values_list("key", "state", "attempt", "tries", "rescues")
    assert {key: tuple(numbers) for key, *numbers in rows} == {
        "long": ("queued", 1, 0, 0),
        "short": ("succeeded", 1, 0, 0),
    }
    assert not Node.objects.get(name="ending").up
    ending.start()
    assert ending.children() == set(), "agents that were terminated are not started again"
    never.touch()
    hosts.spawn(agent_type, host)
    assert hosts.wait(mission).state == "succeeded"
    host_group.drop(ending)
