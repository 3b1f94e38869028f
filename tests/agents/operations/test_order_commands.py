"""`fleet_spawn` and `fleet_agents spawn|drain|terminate`: what they order, wait for and print, with a real node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.models import Agent
from missions.models import Attempt, Mission
from tests.support import fleet
from tests.support.console import CommandResult, manage
from tests.support.processes import hosts
from tests.support.processes.hosts import Host
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("orders")


@pytest.fixture(scope="module")
def host(host_group: hosts.Hosts) -> Host:
    return host_group.add("here", FLEET_NODE_MAX_AGENTS="3")


@pytest.fixture
def agent_type(host: Host) -> Iterator[str]:
    """A type whose agents count the words of a prompt."""
    hosts.agent_type("counting", prompt_argv=["wc", "-w"])
    yield "counting"
    hosts.end_agents(*hosts.live("counting"))
    until(lambda: not host.children())


def agents(*arguments: str) -> CommandResult:
    return manage("fleet_agents", *arguments)


def test_a_task_with_any_characters_is_executed_and_its_result_is_printed(agent_type: str) -> None:
    result = manage("fleet_spawn", agent_type, "three {{ odd }} $(words) 'and \"more", "--json")
    assert (result.code, result.err.count("is idle, pid")) == (0, 1)
    assert (result.json["state"], result.json["sorties"]["succeeded"]) == ("succeeded", 1)
    attempt = Attempt.objects.get(sortie__mission__name__startswith="three { { odd }} $(words)")
    assert attempt.result == {"output": "7\n"}
    (stays,) = hosts.live(agent_type)
    assert (
        f"{stays.name} stays for further tasks. End it: ./manage.py fleet_agents terminate {stays.name}" in result.err
    )


def test_if_all_places_are_taken_an_existing_agent_executes_the_task(agent_type: str) -> None:
    assert agents("spawn", agent_type, "--count", "3").code == 0
    result = manage("fleet_spawn", agent_type, "two words", "--json")
    assert (result.code, "The nodes that are up have no room for 1 more" in result.err) == (0, True), result.err
    assert "One of the 3 running agents gets the task." in result.err
    assert (result.json["state"], "stays for further tasks" in result.err) == ("succeeded", False)
    hosts.agent_type("reading", prompt_argv=["wc", "-c"])
    refusal = manage("fleet_spawn", "reading", "Nobody is there to fly it")
    assert (refusal.code, "no room for 1 more" in refusal.err) == (1, True), refusal.err


def test_a_count_or_size_out_of_range_is_refused_with_the_range(agent_type: str) -> None:
    assert "Cannot spawn 0 agents. Spawn at least one." in agents("spawn", agent_type, "--count", "0").err
    assert "can run 1 to 256 sorties at once, not 300." in agents("spawn", agent_type, "--concurrency", "300").err


def test_the_end_of_the_last_agent_of_a_type_is_reported_with_the_remedy(agent_type: str) -> None:
    assert agents("spawn", agent_type, "--count", "2").code == 0
    first, second = hosts.live(agent_type)
    text = f"No agent of type {agent_type} is left, and none starts by itself: its queued sorties wait."
    assert text not in agents("terminate", first.name).err
    assert f"{text} Start one: ./manage.py fleet_agents spawn {agent_type}" in agents("drain", second.name).err


def test_a_task_for_a_type_that_takes_none_starts_nothing(host: Host) -> None:
    hosts.agent_type("deaf")
    result = manage("fleet_spawn", "deaf", "Do it")
    assert result.code == 2
    assert "prompt" in result.err
    assert not Agent.objects.filter(type="deaf").exists()


def test_several_are_started_and_drained_only_once(agent_type: str) -> None:
    result = agents("spawn", agent_type, "--count", "2", "--json")
    assert result.code == 0
    assert result.json["mission"] is None
    names = [agent["name"] for agent in result.json["agents"]]
    assert len(names) == 2
    ended_agent = result.json["agents"][0]["id"]
    result = agents("drain", *names, "--reason", "Enough.")
    assert (result.code, result.err.count(" terminated\n")) == (0, 2)
    assert Agent.objects.filter(type=agent_type, reason="Enough.").count() == 2
    result = agents("drain", ended_agent)
    assert (result.code, "has ended" in result.err) == (0, True)


def test_terminate_now_returns_sorties_and_reports_each_agent(agent_type: str, tmp_path: Path) -> None:
    agents("spawn", agent_type)
    flag = tmp_path / "go"
    values = {"agent": agent_type, "run": f"until [ -e {flag} ]; do sleep 0.05; done"}
    mission = fleet.launch({"one": values}, folder=str(tmp_path))
    until(lambda: hosts.running(mission))
    result = agents("terminate", "--type", agent_type, "--now", "--json")
    assert result.code == 0
    assert [item["state"] for item in result.json] == ["terminated"]
    assert hosts.attempts(mission) == [("one", 1, "returned")]
    flag.touch()
    assert agents("spawn", agent_type).code == 0
    assert hosts.wait(mission).state == "succeeded"


def test_a_task_can_be_launched_without_watching_it(agent_type: str) -> None:
    result = agents("spawn", agent_type, "four words to count", "--no-wait")
    assert result.code == 0
    mission = Mission.objects.latest("id")
    assert f"fleet_mission watch {mission.ref}" in result.err
    assert hosts.wait(mission).state == "succeeded"


def test_an_order_without_agents_asks_for_them(host: Host) -> None:
    result = agents("drain")
    assert result.code == 2
    assert "No agents are selected." in result.err
