"""A resume value survives `kill -9` of the work, the agent and the node, and the next attempt gets it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from missions.models import Attempt, Mission
from tests.support import fleet
from tests.support.processes import hosts
from tests.support.processes.hosts import Host
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("faults")


@pytest.fixture(scope="module")
def host(host_group: hosts.Hosts) -> Host:
    return host_group.add("here")


@pytest.fixture
def agent_type(host: Host) -> Iterator[str]:
    hosts.agent_type("survey")
    yield "survey"
    if host.process is None or host.process.poll() is not None:
        host.start()
    hosts.end_agents(*hosts.live("survey"))
    until(lambda: not host.children())


def launch(agent_type: str, folder: Path) -> Mission:
    """A sortie whose first attempt saves its pid and waits. The second returns the value that it gets."""
    work = (
        'case $FLEET_ATTEMPT in */1) echo "{\\"step\\": 7}" > $FLEET_RESUME; echo $FLEET_ATTEMPT $$ > pids; sleep 600;;'
    )
    work += " *) cp $FLEET_RESUME $FLEET_RESULT;; esac"
    sortie = {"agent": agent_type, "run": work, "retry": {"max_attempts": 2, "backoff": "0.1s"}}
    return fleet.launch({"one": sortie}, folder=str(folder))


def rows(mission: Mission) -> list[tuple[Any, ...]]:
    return list(
        Attempt.objects.filter(sortie__mission=mission).order_by("number").values_list("state", "resume", "result")
    )


def test_a_saved_value_survives_killed_work(host: Host, agent_type: str, tmp_path: Path) -> None:
    hosts.spawn(agent_type, host)
    mission = launch(agent_type, tmp_path)
    (work,) = until(lambda: hosts.live_pids(tmp_path / "pids") or None)
    os.kill(work, signal.SIGKILL)  # possibly before the value was stored; only the final result is checked
    assert hosts.wait(mission).state == "succeeded"
    assert rows(mission) == [("failed", {"step": 7}, None), ("succeeded", None, {"step": 7})]


@pytest.mark.parametrize("killed", ["agent", "node"])
def test_a_saved_value_survives_a_killed_agent_or_node(
    host: Host, agent_type: str, tmp_path: Path, killed: str
) -> None:
    hosts.spawn(agent_type, host)
    mission = launch(agent_type, tmp_path)
    until(lambda: rows(mission) == [("running", {"step": 7}, None)])
    if killed == "agent":
        hosts.kill(hosts.running_agent(mission))
    else:
        host.send(signal.SIGKILL)
        assert host.process is not None
        host.process.wait()
        host.start()
    assert hosts.wait(mission).state == "succeeded"
    first, *others, last = rows(mission)  # on a busy machine, the next attempt may lose its lease too
    assert (first[1], last) == ({"step": 7}, ("succeeded", None, {"step": 7}))
    assert {state for state, *_ in (first, *others)} <= {"lost", "returned"}
