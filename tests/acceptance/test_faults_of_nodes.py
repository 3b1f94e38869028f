"""Nodes, agents and their processes are killed or halted, one by one and all at once.

No sortie is lost, none is accepted twice, and no process is left.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from django.db.models.functions import Now
from django.test import override_settings

from agents import operations
from agents.models import Agent, Node
from fleet import errors, ids
from fleet.events.models import Event
from fleet.host import processes
from missions.models import Attempt, Sortie
from tests.support import fleet
from tests.support.processes import hosts
from tests.support.processes.hosts import Host
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("faults")
LONG_LEASE_S = 240.0


@pytest.fixture(scope="module")
def host(host_group: hosts.Hosts) -> Host:
    return host_group.add("here")


@pytest.fixture
def patient_host(host_group: hosts.Hosts) -> Iterator[Host]:
    """A host whose leases are so long that none ends during a test."""
    with override_settings(FLEET_LEASE_S=LONG_LEASE_S):
        patient = host_group.add("patient", FLEET_LEASE_S=str(LONG_LEASE_S))
        yield patient
        host_group.drop(patient)


@pytest.fixture
def agent_type(host: Host) -> Iterator[str]:
    hosts.agent_type("survey")
    yield "survey"
    if host.process is None or host.process.poll() is not None:
        host.start()
    hosts.end_agents(*hosts.live("survey"))
    until(lambda: not host.children())


def first_attempt_waits(pids: Path) -> dict[str, str]:
    """Work whose first attempt never ends and has a child in another session; the second ends at once.

    Both record the pids of their processes.
    """
    return {
        "agent": "survey",
        "run": f"echo $FLEET_ATTEMPT $$ >> {pids};"
        f" case $FLEET_ATTEMPT in */1) setsid sleep 600 & echo $FLEET_ATTEMPT $! >> {pids}; wait;; esac",
    }


def shim_of(pid: int) -> psutil.Process:
    """The shim that supervises a process of the work."""
    return next(
        item
        for item in psutil.Process(pid).parents()
        if item.name() != "bwrap" and "agents/shim" in " ".join(item.cmdline())
    )


def test_killing_the_work_costs_a_try_and_killing_the_shim_ends_the_work(
    host: Host, agent_type: str, tmp_path: Path
) -> None:
    hosts.spawn(agent_type, host)
    pids = tmp_path / "pids"
    retried = {**first_attempt_waits(pids), "retry": {"max_attempts": 2, "backoff": "0.1s"}}
    mission = fleet.launch({"one": retried}, folder=str(tmp_path))
    work, child = until(lambda: hosts.live_pids(pids)[:2] if len(hosts.live_pids(pids)) > 1 else None)
    os.kill(work, signal.SIGKILL)
    assert hosts.wait(mission).state == "succeeded"
    assert hosts.attempts(mission) == [("one", 1, "failed"), ("one", 2, "succeeded")]
    assert "SIGKILL" in str(Attempt.objects.get(sortie__mission=mission, number=1).error)
    assert hosts.have_ended(work, child)

    pids.unlink()
    mission = fleet.launch({"one": retried}, folder=str(tmp_path))
    work, child = until(lambda: hosts.live_pids(pids)[:2] if len(hosts.live_pids(pids)) > 1 else None)
    shim_of(work).kill()
    assert hosts.wait(mission).state == "succeeded"
    assert [number for _, number, _ in hosts.attempts(mission)] == [1, 2]
    until(lambda: hosts.have_ended(work, child))


def test_the_work_of_a_killed_agent_continues_with_another_before_its_lease_ends(
    patient_host: Host, agent_type: str, tmp_path: Path
) -> None:
    first, second = hosts.spawn(agent_type, patient_host, count=2)
    pids = tmp_path / "pids"
    mission = fleet.launch({"one": first_attempt_waits(pids)}, folder=str(tmp_path))
    work, child = until(lambda: hosts.live_pids(pids)[:2] if len(hosts.live_pids(pids)) > 1 else None)
    agent = hosts.running_agent(mission)
    hosts.kill(agent)
    assert hosts.wait(mission).state == "succeeded"
    first_attempt, second_attempt = Attempt.objects.filter(sortie__mission=mission).order_by("number")
    assert (first_attempt.state, second_attempt.agent_id in {first.id, second.id, None} - {agent.id}) == ("lost", True)
    assert first_attempt.finished_at is not None
    assert (second_attempt.started_at - first_attempt.started_at).total_seconds() < LONG_LEASE_S
    until(lambda: hosts.have_ended(work, child))
    until(lambda: [agent.state for agent in hosts.live(agent_type)] == ["idle"] * 2)


def test_killing_a_node_ends_its_agents_and_the_next_node_starts_what_was_ordered(
    host: Host, agent_type: str, tmp_path: Path
) -> None:
    agents = hosts.spawn(agent_type, host, count=2, concurrency=3)
    leaving, staying = agents
    pids = tmp_path / "pids"
    mission = fleet.launch({"one": first_attempt_waits(pids)}, folder=str(tmp_path))
    work, child = until(lambda: hosts.live_pids(pids)[:2] if len(hosts.live_pids(pids)) > 1 else None)
    idle = leaving if hosts.running(mission)[0].agent_id != leaving.id else staying
    operations.order(agents=[idle.id], order=Agent.Order.TERMINATE, reason="It is not needed.")
    until(lambda: Agent.objects.get(id=idle.id).state == "terminated")
    host.send(signal.SIGKILL)
    until(lambda: not any(map(hosts.alive, agents)))
    until(lambda: hosts.have_ended(work, child))
    host.start()
    assert hosts.wait(mission).state == "succeeded"
    assert Sortie.objects.get(mission=mission).tries == 0
    (new_agent,) = until(lambda: [agent for agent in hosts.live(agent_type) if agent.state == "idle"])
    assert new_agent.concurrency == 3
    assert host.children() == {new_agent.pid}


def test_killing_everything_at_once_leaves_no_process_and_loses_nothing(
    host: Host, agent_type: str, tmp_path: Path
) -> None:
    """With node, agents and shims dead, only the next agent to start can find the processes of the work."""
    hosts.spawn(agent_type, host, concurrency=2)
    pids = tmp_path / "pids"
    mission = fleet.launch({"one": first_attempt_waits(pids), "two": first_attempt_waits(pids)}, folder=str(tmp_path))
    process_pids = until(lambda: hosts.live_pids(pids) if len(hosts.live_pids(pids)) == 4 else None)
    node_processes = [psutil.Process(host.pid), *psutil.Process(host.pid).children(recursive=True)]
    for item in node_processes:
        if item.pid not in process_pids[1::2]:
            item.send_signal(signal.SIGSTOP)  # so that no process can react to the death of another
    for item in node_processes:
        if item.pid not in process_pids:
            item.send_signal(signal.SIGKILL)
    assert host.process is not None
    host.process.wait()
    host.start()
    assert hosts.wait(mission).state == "succeeded"
    until(lambda: hosts.have_ended(*process_pids))
    until(lambda: host.children() == {agent.pid for agent in hosts.live(agent_type)})


def test_a_halted_agent_loses_its_work_and_is_ended(host: Host, agent_type: str, tmp_path: Path) -> None:
    hosts.spawn(agent_type, host)
    pids = tmp_path / "pids"
    mission = fleet.launch({"one": first_attempt_waits(pids)}, folder=str(tmp_path))
    work, _ = until(lambda: hosts.live_pids(pids)[:2] if len(hosts.live_pids(pids)) > 1 else None)
    halted_agent = hosts.running_agent(mission)
    assert halted_agent.pid is not None
    hosts.halt(halted_agent.pid)
    until(lambda: Agent.objects.get(id=halted_agent.id).state == "lost")
    assert hosts.wait(mission).state == "succeeded", "the successor runs it after the halted agent has been ended"
    assert not hosts.alive(halted_agent)
    until(lambda: hosts.have_ended(work))
    assert hosts.attempts(mission) == [("one", 1, "lost"), ("one", 2, "succeeded")]
    (successor,) = hosts.live(agent_type)
    assert successor.crashes == 0


def test_a_halted_agent_that_resumes_after_its_lease_is_refused(host: Host, agent_type: str, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    hosts.spawn(agent_type, host)
    mission = fleet.launch({"one": {"agent": agent_type, "driver": "scripted", "with": {"hold_until": str(flag)}}})
    until(lambda: hosts.running(mission))
    halted_agent = hosts.running_agent(mission)
    assert halted_agent.pid is not None
    hosts.spawn(agent_type, host)
    hosts.halt(halted_agent.pid)
    flag.touch()
    until(lambda: hosts.attempts(mission)[0] == ("one", 1, "lost"))
    # Its last heartbeat may be later than its last lease.
    until(lambda: Agent.objects.get(id=halted_agent.id).state == "lost")
    os.kill(halted_agent.pid, signal.SIGCONT)
    assert hosts.wait(mission).state == "succeeded"
    until(lambda: not hosts.alive(halted_agent))
    first, *others = hosts.attempts(mission)
    assert (first, [state for _, _, state in others].count("succeeded")) == (("one", 1, "lost"), 1)


def test_a_halted_node_counts_as_down_while_its_agents_continue(host: Host, agent_type: str) -> None:
    (agent,) = hosts.spawn(agent_type, host)
    before = Event.objects.order_by("-id").values_list("id", flat=True)[0]
    host.halt()
    until(lambda: not host.node.up)
    with pytest.raises(errors.Unavailable, match="Node here is not up"):
        operations.spawn(type=agent_type, node="here")
    mission = fleet.launch({"one": {"agent": agent_type, "run": "true"}})
    assert hosts.wait(mission).state == "succeeded"
    with pytest.raises(errors.Conflict, match="is already up"):  # only its existence matters
        operations.join(name="here", pid=os.getpid(), start_time=processes.start_time_of(os.getpid()) or 0.0)
    host.send(signal.SIGCONT)
    until(lambda: host.node.up)
    events = Event.objects.filter(id__gt=before, subject=host.node.id).order_by("id").values_list("kind", flat=True)
    assert list(events) == ["node.lost", "node.up"]
    assert [item.id for item in hosts.live(agent_type)] == [agent.id]


def test_a_process_that_reuses_the_pid_of_a_dead_agent_is_left_alone(host_group: hosts.Hosts, agent_type: str) -> None:
    """The rows of a killed node contain pids that unrelated processes have reused."""
    with subprocess.Popen(["sleep", "600"]) as other, subprocess.Popen(["sleep", "600"]) as own:
        try:
            started_at = processes.start_time_of(other.pid)
            assert started_at is not None
            node = Node.objects.create(name="reborn", boot=boot(), pid=other.pid, start_time=started_at - 1, up=True)
            rows = [
                Agent.objects.create(
                    type_id=agent_type, node=node, ordinal=ordinal, state="idle", pid=pid, start_time=start
                )
                for ordinal, (pid, start) in enumerate(
                    [(other.pid, started_at - 1), (own.pid, processes.start_time_of(own.pid))]
                )
            ]
            reborn = host_group.add("reborn")
            until(lambda: Agent.objects.filter(id__in=[row.id for row in rows], state="lost").count() == 2)
            assert other.poll() is None
            assert own.wait(60) == -signal.SIGTERM, "this process is the one in the row"
            host_group.drop(reborn)
        finally:
            other.kill()
            own.kill()


def test_the_next_node_ends_processes_of_agents_that_were_lost_without_a_node(
    host_group: hosts.Hosts, agent_type: str
) -> None:
    with subprocess.Popen(["sleep", "600"]) as ghost, subprocess.Popen(["sleep", "600"]) as other:
        try:
            started_at = processes.start_time_of(ghost.pid)
            assert started_at is not None
            node = Node.objects.create(name="haunted", boot=boot(), pid=ghost.pid, start_time=started_at - 1, up=False)
            for ordinal, (pid, start) in enumerate([(ghost.pid, started_at), (other.pid, started_at - 1)]):
                Agent.objects.create(
                    type_id=agent_type,
                    node=node,
                    ordinal=ordinal,
                    state="lost",
                    pid=pid,
                    start_time=start,
                    ended_at=Now(),
                )
            new_host = host_group.add("haunted")
            assert ghost.wait(60) == -signal.SIGTERM
            assert other.poll() is None
            host_group.drop(new_host)
        finally:
            ghost.kill()
            other.kill()


def test_after_a_reboot_old_agents_are_lost_and_no_new_process_is_touched(
    host_group: hosts.Hosts, agent_type: str
) -> None:
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            node = Node.objects.create(name="booted", boot=str(ids.new()), pid=1, start_time=0.0, up=False)
            row = Agent.objects.create(
                type_id=agent_type,
                node=node,
                ordinal=1,
                state="idle",
                pid=other.pid,
                start_time=processes.start_time_of(other.pid),
            )
            booted = host_group.add("booted")
            row.refresh_from_db()
            assert row.state == "lost"
            assert other.poll() is None
            (new_agent,) = until(lambda: list(Agent.objects.filter(node=node, state="idle")))
            assert new_agent.ordinal == 1
            host_group.drop(booted)
        finally:
            other.kill()


def test_a_node_whose_name_was_taken_over_ends_with_its_agents(host_group: hosts.Hosts, agent_type: str) -> None:
    old_host = host_group.add("twice")
    (agent,) = hosts.spawn(agent_type, old_host)
    Node.objects.filter(name="twice").update(pid=1, start_time=1.0, boot=str(ids.new()))
    assert old_host.process is not None
    assert old_host.process.wait(60) == 0
    assert "has taken over" in old_host.log()
    assert not hosts.alive(agent)
    assert old_host.node.up, "the row belongs to the other node"
    Node.objects.filter(name="twice").update(up=False)
    host_group.drop(old_host)


def test_agents_continue_when_their_logs_fill_the_disk(host_group: hosts.Hosts, agent_type: str) -> None:
    """A limit on file sizes simulates the full disk: each write beyond it fails."""
    most = 100_000  # the limit also applies to the in-memory file with the options of a sandbox
    new_host = host_group.add("full")
    resource.prlimit(new_host.pid, resource.RLIMIT_FSIZE, (most, most))  # inherited by its agents
    (agent,) = hosts.spawn(agent_type, new_host)
    with new_host.agent_log_path(agent).open("a") as log:
        log.write("x" * most)
    size = len(new_host.agent_log(agent))
    mission = fleet.launch(
        {
            "a": {"agent": agent_type, "run": "echo $FLEET_ATTEMPT"},
            "b": {"agent": agent_type, "needs": ["a"], "run": "true"},
        }
    )
    assert hosts.wait(mission).state == "succeeded"
    assert [item.id for item in hosts.live(agent_type)] == [agent.id]
    operations.order(agents=[agent.id], order=Agent.Order.TERMINATE, reason="It is not needed.")
    until(lambda: Agent.objects.get(id=agent.id).state == "terminated")
    assert len(new_host.agent_log(agent)) == size
    host_group.drop(new_host)


def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
