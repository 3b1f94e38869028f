"""Agents are processes that a node starts, watches, restarts and ends, without losing a sortie."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from fleet.host import processes
from tests.acceptance.conftest import Fleet
from tests.support.paths import CHECKOUT
from tests.support.processes import hosts, running
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("fleet")


def home(fleet: Fleet) -> Path:
    return Path(fleet.env["FLEET_HOME"])


def list_agents(fleet: Fleet, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = fleet.json("fleet_agents", "list", *arguments)
    return found


def state(fleet: Fleet, agent: str) -> dict[str, Any]:
    (found,) = [item for item in list_agents(fleet, "--all") if item["id"] == agent]
    return found


def spawn(fleet: Fleet, *arguments: str) -> list[dict[str, Any]]:
    agents: list[dict[str, Any]] = fleet.json("fleet_agents", "spawn", *arguments)["agents"]
    return agents


@contextmanager
def a_node(fleet: Fleet, name: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another node of the same fleet."""
    with subprocess.Popen(
        [sys.executable, "manage.py", "fleet_node", "--name", name],
        cwd=CHECKOUT, env={**fleet.env, **env}, stderr=subprocess.DEVNULL,
    ) as node:  # fmt: skip
        try:
            until(lambda: any(item["node"] == name and item["state"] == "idle" for item in list_agents(fleet)))
            yield node
        finally:
            node.terminate()
            node.wait(30)


def test_agents_are_spawned_and_terminated_by_command(fleet: Fleet) -> None:
    agents = spawn(fleet, "backend", "--count", "2", "--concurrency", "1")
    assert [(item["state"], item["concurrency"]) for item in agents] == [("idle", 1), ("idle", 1)]
    assert len({item["name"] for item in agents}) == 2
    for item in agents:
        process = psutil.Process(item["pid"])
        assert item["name"] in " ".join(process.cmdline())
        assert "fleet_node" in " ".join(process.parent().cmdline())  # type: ignore[union-attr]
    terminated = fleet.json("fleet_agents", "terminate", *[item["id"] for item in agents])
    assert [item["state"] for item in terminated] == ["terminated", "terminated"]
    until(lambda: not any(psutil.pid_exists(item["pid"]) for item in agents))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nonsense"], 1, "There is no agent type 'nonsense'"),
        (["backend", "--node", "nowhere"], 1, "There is no node 'nowhere'"),
        (["backend", "--count", "40"], 1, "no room for 40 more"),
        (["backend", "Write a poem"], 2, "takes no prompts"),
    ],
)
def test_an_impossible_spawn_is_refused_with_the_reason(
    fleet: Fleet, arguments: list[str], code: int, message: str
) -> None:
    before = len(list_agents(fleet))
    result = fleet.manage("fleet_agents", "spawn", *arguments, check=False)
    assert (result.returncode, message in result.stderr) == (code, True), result.stderr
    assert len(list_agents(fleet)) == before


def test_a_killed_agent_is_lost_at_once_and_its_successor_runs_its_sortie(fleet: Fleet) -> None:
    agent = fleet.agent("performance")
    mission = fleet.launch(
        {"sorties": {"one": {"agent": "performance", "run": "case $FLEET_ATTEMPT in */1) sleep 600;; esac"}}}
    )
    until(lambda: fleet.agent("performance")["sorties"])
    os.kill(agent["pid"], signal.SIGKILL)
    document = fleet.wait(mission)
    assert (document["state"], document["items"][0]["attempt"]) == ("succeeded", 2)
    lost = state(fleet, agent["id"])
    assert (lost["state"], "signal 9" in lost["reason"]) == ("lost", True)
    successor = fleet.agent("performance")
    assert (successor["name"], successor["crashes"]) == (agent["name"], 1)


def test_terminate_now_ends_all_processes_and_the_sortie_continues_elsewhere(fleet: Fleet, tmp_path: Path) -> None:
    first = fleet.agent("security")
    pids = tmp_path / "pids"
    script = f'setsid sleep 600 & echo $FLEET_ATTEMPT $! >> {pids}; [ "$(wc -l < {pids})" -gt 1 ] || sleep 600'
    mission = fleet.launch({"sorties": {"one": {"agent": "security", "run": script}}}, folder=tmp_path)
    remaining_pids = until(lambda: hosts.live_pids(pids))
    spawn(fleet, "security")
    fleet.manage("fleet_agents", "terminate", first["id"], "--now")
    assert state(fleet, first["id"])["state"] == "terminated"
    document = fleet.wait(mission)
    assert (document["state"], document["items"][0]["attempt"]) == ("succeeded", 2)
    until(lambda: hosts.have_ended(*remaining_pids) and not hosts.live_pids(pids))


def test_a_draining_agent_finishes_its_sorties(fleet: Fleet, tmp_path: Path) -> None:
    (agent,) = spawn(fleet, "frontend")
    fleet.manage(
        "fleet_agents", "drain", *[item["id"] for item in list_agents(fleet, "--type", "frontend")][:1], "--no-wait"
    )
    flag = tmp_path / "go"
    mission = fleet.launch(
        {"sorties": {"one": {"agent": "frontend", "driver": "scripted", "with": {"hold_until": str(flag)}}}}
    )
    until(lambda: state(fleet, agent["id"])["sorties"])
    fleet.manage("fleet_agents", "drain", agent["id"], "--no-wait")
    until(lambda: state(fleet, agent["id"])["state"] == "draining")
    flag.touch()
    document = fleet.wait(mission)
    assert (document["state"], document["items"][0]["attempt"]) == ("succeeded", 1)
    until(lambda: state(fleet, agent["id"])["state"] == "terminated")
    spawn(fleet, "frontend")


def test_killing_a_node_loses_no_sortie(fleet: Fleet, tmp_path: Path) -> None:
    with a_node(fleet, "other") as node:
        theirs = [item for item in list_agents(fleet) if item["node"] == "other"]
        values = {"agent": "documentation", "driver": "scripted", "with": {"hold_until": str(tmp_path / "go")}}
        mission = fleet.launch({"sorties": {f"s{n}": values for n in range(4)}})
        until(lambda: any(item["sorties"] for item in list_agents(fleet, "--node", "other")))
        node.kill()
        node.wait()
        (tmp_path / "go").touch()
        document = fleet.wait(mission)
        assert document["state"] == "succeeded"
        until(lambda: not any(psutil.pid_exists(agent["pid"]) for agent in theirs))
        until(lambda: not list_agents(fleet, "--node", "other"))


def test_two_nodes_with_one_name_cannot_both_be_up(fleet: Fleet) -> None:
    name = fleet.agent("testing")["node"]
    second = fleet.manage("fleet_node", "--name", name, check=False)
    assert second.returncode != 0
    assert "is already up" in second.stderr
    assert fleet.agent("testing")["state"] in {"idle", "busy"}


def test_an_agent_that_crashes_repeatedly_is_not_restarted_and_the_reason_is_given(fleet: Fleet) -> None:
    with a_node(fleet, "frail", FLEET_MAX_CRASHES="1"):
        first, second = ([item for item in list_agents(fleet, "--node", "frail") if item["type"] == "backend"], [])
        os.kill(first[0]["pid"], signal.SIGKILL)
        second = until(
            lambda: [
                item
                for item in list_agents(fleet, "--node", "frail")
                if item["type"] == "backend" and item["crashes"] == 1 and item["state"] == "idle"
            ]
        )
        os.kill(second[0]["pid"], signal.SIGKILL)
        until(lambda: state(fleet, second[0]["id"])["state"] == "failed")
        assert "not started again" in state(fleet, second[0]["id"])["reason"]


def test_a_process_is_not_confused_with_another_that_reuses_its_pid() -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        started_at = processes.start_time_of(child.pid)
        assert started_at is not None
        assert processes.is_alive(pid=child.pid, start_time=started_at)
        processes.end([(child.pid, started_at - 1)], within_s=0.1)
        assert child.poll() is None
        child.kill()
        until(lambda: not processes.is_alive(pid=child.pid, start_time=started_at))  # a zombie counts as dead


def test_rows_of_agents_and_processes_agree(fleet: Fleet) -> None:
    """No row without a process, and no process without a row."""
    rows = {item["pid"] for item in list_agents(fleet)}
    assert all(psutil.pid_exists(pid) for pid in rows)
    (node,) = running.processes(home(fleet), "fleet_node")
    assert {child.pid for child in node.children() if child.name() != "sleep"} == rows
