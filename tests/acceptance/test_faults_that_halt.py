"""Only one attempt of a sortie runs at a time, whichever of agent, node, shim and work is halted (SIGSTOP) and resumed;
checked by the event log, and by what the attempts write until they are killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from agents.models import Agent
from missions.models import Attempt, Mission
from tests.support import fleet
from tests.support.processes import hosts
from tests.support.processes.hosts import Host
from tests.support.waiting import until
from tests.support.work import overlaps, writing

pytestmark = pytest.mark.xdist_group("faults")

RECORD_TIME = overlaps.RECORD_TIME.format(path='"$0"')
SCRIPT = f"""trap '' TERM HUP
case $FLEET_ATTEMPT in
*/1) while :; do {RECORD_TIME}; sleep 0.02; done;;
*) for n in 1 2 3 4 5 6 7 8 9 10; do {RECORD_TIME}; sleep 0.05; done;;
esac"""


@pytest.fixture(scope="module")
def first_host(host_group: hosts.Hosts) -> Host:
    return host_group.add("here", FLEET_CALLABLES="tests.support.work.writing")


@pytest.fixture(scope="module")
def second_host(host_group: hosts.Hosts) -> Host:
    return host_group.add("there", FLEET_CALLABLES="tests.support.work.writing")


@pytest.fixture
def agent_type(first_host: Host, second_host: Host) -> Iterator[str]:
    hosts.agent_type("survey")
    yield "survey"
    for host in (first_host, second_host):
        host.send(signal.SIGCONT)
    hosts.end_agents(*hosts.live("survey"))
    until(lambda: not first_host.children() and not second_host.children())


WORKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "a command": lambda path: {"run": ["sh", "-c", SCRIPT, str(path)]},
    "a callable": lambda path: {"call": f"{writing.__name__}:write", "with": {"path": str(path)}},
    "verify": lambda path: {"run": "true", "verify": ["sh", "-c", SCRIPT, str(path)]},
}


def start_sortie(host: Host, agent_type: str, path: Path, work: str) -> tuple[Mission, Agent, psutil.Process]:
    """Start a sortie whose first attempt runs on this host. Returns it with its agent and its shim."""
    hosts.spawn(agent_type, host)
    mission = fleet.launch({"one": {"agent": agent_type, **WORKS[work](path)}}, folder=str(path.parent))
    until(path.exists)
    agent = hosts.running_agent(mission)
    return mission, agent, hosts.shim(agent)


def check_no_overlap(mission: Mission, path: Path) -> None:
    """Check that the second attempt ended the mission, and began only after the first one had stopped writing."""
    assert hosts.wait(mission).state == "succeeded"
    first, second = Attempt.objects.filter(sortie__mission=mission).order_by("number")
    assert (first.state, second.state) == ("lost", "succeeded")
    ((_, attempts),) = overlaps.check(path).items()
    assert set(attempts) == {1, 2}


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("halted", [("agent",), ("node", "agent")])
def test_a_halted_agent_and_its_successor_on_another_host_do_not_overlap(
    first_host: Host, second_host: Host, agent_type: str, tmp_path: Path, work: str, halted: tuple[str, ...]
) -> None:
    """The running shim notices that renewals stop, and ends the work. Nothing else could."""
    path = tmp_path / "written"
    mission, agent, _ = start_sortie(first_host, agent_type, path, work)
    hosts.spawn(agent_type, second_host)
    pids = {"node": first_host.pid, "agent": agent.pid}
    for target in halted:
        hosts.halt(pids[target])
    check_no_overlap(mission, path)
    for target in halted:
        if target == "node" or hosts.alive(agent):
            os.kill(pids[target] or 0, signal.SIGCONT)
    until(lambda: not hosts.alive(agent))
    overlaps.check(path)


@pytest.mark.parametrize("halted", [("agent", "shim"), ("node", "agent", "shim"), ("node", "agent", "shim", "work")])
def test_a_halted_shim_and_the_next_attempt_on_its_host_do_not_overlap(
    first_host: Host, second_host: Host, agent_type: str, tmp_path: Path, halted: tuple[str, ...]
) -> None:
    """Both nodes are on this host: before the next attempt starts, all processes of the earlier one are ended."""
    path = tmp_path / "written"
    mission, agent, shim = start_sortie(first_host, agent_type, path, "a command")
    work = shim.children()[0]
    hosts.spawn(agent_type, second_host)
    pids = {"node": first_host.pid, "agent": agent.pid, "shim": shim.pid, "work": work.pid}
    for target in halted:
        hosts.halt(pids[target])
    check_no_overlap(mission, path)
    assert hosts.have_ended(shim.pid, work.pid)
    for target in {"node", "agent"} & set(halted):
        if target == "node" or hosts.alive(agent):
            os.kill(pids[target] or 0, signal.SIGCONT)
    until(lambda: not hosts.alive(agent))
    overlaps.check(path)


def test_a_halted_shim_alone_changes_nothing_while_its_lease_is_renewed(
    first_host: Host, agent_type: str, tmp_path: Path
) -> None:
    path = tmp_path / "written"
    mission, agent, shim = start_sortie(first_host, agent_type, path, "a command")
    shim.suspend()
    size = path.stat().st_size
    until(lambda: (Attempt.objects.get(sortie__mission=mission).state != "running") or path.stat().st_size > 20 * size)
    hosts.kill(agent)
    check_no_overlap(mission, path)
    assert hosts.have_ended(shim.pid)


def test_a_sortie_of_a_killed_agent_is_freed_once_its_work_is_gone(
    first_host: Host, agent_type: str, tmp_path: Path
) -> None:
    path = tmp_path / "written"
    mission, agent, _ = start_sortie(first_host, agent_type, path, "a command")
    hosts.kill(agent)
    check_no_overlap(mission, path)
    agent.refresh_from_db()
    assert (agent.state, agent.reaped) == ("lost", True)


@pytest.mark.parametrize("killed_process", ["agent", "node"])
def test_scratch_folders_of_killed_agents_are_removed_at_the_next_start(
    first_host: Host, agent_type: str, tmp_path: Path, killed_process: str
) -> None:
    path = tmp_path / "written"
    mission, agent, _ = start_sortie(first_host, agent_type, path, "a command")
    (scratch,) = (first_host.home / "scratch").glob("srt_*")
    (first_host.home / "scratch" / "notes of somebody").mkdir(exist_ok=True)
    if killed_process == "node":
        first_host.halt()  # otherwise it would notice that its agent has died
    hosts.kill(agent)
    if killed_process == "node":
        first_host.send(signal.SIGKILL)
        assert first_host.process is not None
        first_host.process.wait()
        first_host.start()
    check_no_overlap(mission, path)
    if killed_process == "agent":
        hosts.spawn(agent_type, first_host)  # its successor may have started before the sortie was taken away
    until(lambda: not scratch.exists())
    assert (first_host.home / "scratch" / "notes of somebody").exists()
