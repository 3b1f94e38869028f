"""Several hosts form one fleet, even over a slow, halted or cut network: nothing is lost or accepted twice."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents import operations
from agents.models import Agent, Node
from fleet.events.models import Event
from missions.models import Mission, Sortie
from tests.support import fleet
from tests.support.processes import hosts, warm
from tests.support.processes.hosts import Host
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("hosts")


@pytest.fixture(scope="module")
def near_host(host_group: hosts.Hosts) -> Host:
    return host_group.add("here")


@pytest.fixture(scope="module")
def far_host(host_group: hosts.Hosts) -> Host:
    """Reaches Postgres through one proxy and Redis through another."""
    return host_group.add("far", FLEET_POSTGRES_TIMEOUT_S="30")  # longer than a test halts its connection


@pytest.fixture
def agent_type() -> Iterator[str]:
    hosts.agent_type("survey")
    yield "survey"
    hosts.end_agents(*hosts.live("survey"))


def first_attempt_waits(pids: Path) -> str:
    """A script whose first attempt never ends and whose second ends at once. Both record their pids."""
    return f"echo $FLEET_ATTEMPT $$ >> {pids}; case $FLEET_ATTEMPT in */1) exec sleep 600;; esac; echo done"


def test_agents_on_all_hosts_share_the_work_of_their_type(near_host: Host, far_host: Host, agent_type: str) -> None:
    agents = hosts.spawn(agent_type, near_host) + hosts.spawn(agent_type, far_host)
    mission = fleet.launch({f"s{n}": {"agent": agent_type, "run": "sleep 0.3"} for n in range(8)})
    assert hosts.wait(mission).state == "succeeded"
    agents_used = set(Sortie.objects.filter(mission=mission).values_list("agent", flat=True))
    assert agents_used == {agent.id for agent in agents}
    assert far_host.database.passed > 0
    assert far_host.redis.passed > 0


def test_a_concurrency_limit_applies_across_hosts(
    near_host: Host, far_host: Host, agent_type: str, tmp_path: Path
) -> None:
    hosts.spawn(agent_type, near_host)
    hosts.spawn(agent_type, far_host)
    exclusive = f"mkdir {tmp_path}/room && sleep 0.1 && rmdir {tmp_path}/room"
    item = {"agent": agent_type, "run": exclusive, "concurrency": {"key": "room", "limit": 1}}
    mission = fleet.launch({f"s{n}": item for n in range(4)}, folder=str(tmp_path))
    assert hosts.wait(mission).state == "succeeded"


def test_a_host_with_a_slow_network_is_only_slower(far_host: Host, agent_type: str) -> None:
    (agent,) = hosts.spawn(agent_type, far_host)
    until(lambda: "ready." in far_host.agent_log(agent))
    assert hosts.wait(fleet.launch({"first": {"agent": agent_type, "run": "true"}})).state == "succeeded"
    far_host.database.delay_s = far_host.redis.delay_s = 0.08  # each way
    try:
        mission = fleet.launch({f"s{n}": {"agent": agent_type, "run": "true"} for n in range(2)})
        assert hosts.wait(mission).state == "succeeded"
        assert {number for _, number, _ in hosts.attempts(mission)} == {1}
        operations.order(agents=[agent.id], order=Agent.Order.TERMINATE, reason="It is not needed.")
        until(lambda: Agent.objects.get(id=agent.id).state == "terminated")
    finally:
        far_host.database.delay_s = far_host.redis.delay_s = 0.0


def test_a_host_without_redis_continues_to_work(far_host: Host, agent_type: str) -> None:
    (agent,) = hosts.spawn(agent_type, far_host)
    far_host.redis.cut()
    try:
        mission = fleet.launch(
            {"a": {"agent": agent_type, "run": "true"}, "b": {"agent": agent_type, "needs": ["a"], "run": "true"}}
        )
        assert hosts.wait(mission).state == "succeeded"
        assert set(Sortie.objects.filter(mission=mission).values_list("agent", flat=True)) == {agent.id}
        os.kill(agent.pid or 0, signal.SIGKILL)  # an agent that never had Redis works too
        (successor,) = until(
            lambda: [item for item in hosts.live(agent_type) if item.id != agent.id and item.state == "idle"]
        )
        mission = fleet.launch({"a": {"agent": agent_type, "run": "true"}})
        assert hosts.wait(mission).state == "succeeded"
    finally:
        far_host.redis.restore()
    hinted = fleet.launch({"a": {"agent": agent_type, "run": "true"}})
    assert hosts.wait(hinted).state == "succeeded"
    assert hosts.live(agent_type) == [successor]


def test_a_host_without_postgres_stops_its_work_and_recovers_by_itself(
    near_host: Host, far_host: Host, agent_type: str, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    (cut_off,) = hosts.spawn(agent_type, far_host)
    mission = fleet.launch({"one": {"agent": agent_type, "run": first_attempt_waits(pids)}}, folder=str(tmp_path))
    (pid,) = until(lambda: hosts.live_pids(pids))
    before = Event.objects.order_by("-id").values_list("id", flat=True)[0]
    (other_agent,) = hosts.spawn(agent_type, near_host)
    far_host.database.cut()
    try:
        until(lambda: hosts.have_ended(pid))
        assert Sortie.objects.get(mission=mission).attempt == 1, "its driver was stopped before the next one started"
        assert hosts.wait(mission).state == "succeeded"
        assert hosts.attempts(mission) == [("one", 1, "lost"), ("one", 2, "succeeded")]
        assert Sortie.objects.get(mission=mission).agent_id == other_agent.id
        until(lambda: Agent.objects.get(id=cut_off.id).state == "lost")
        until(lambda: not Node.objects.get(name="far").up)
        assert far_host.process is not None
        assert far_host.process.poll() is None
    finally:
        far_host.database.restore()
    until(lambda: Node.objects.get(name="far").up)
    (back,) = until(lambda: list(Agent.objects.filter(type=agent_type, node=far_host.node, state="idle")))
    assert back.crashes == 0, "its host was disconnected, but nothing crashed"
    until(lambda: not hosts.alive(cut_off))
    kinds = Event.objects.filter(id__gt=before, subject=far_host.node.id).order_by("id").values_list("kind", flat=True)
    assert list(kinds) == ["node.lost", "node.up"]
    hosts.end_agents(other_agent)
    hosts.spawn(agent_type, far_host)
    assert hosts.wait(fleet.launch({"one": {"agent": agent_type, "run": "true"}})).state == "succeeded"


def test_an_outcome_that_arrives_late_over_a_halted_network_is_refused(
    near_host: Host, far_host: Host, agent_type: str, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    (cut_off,) = hosts.spawn(agent_type, far_host)
    script = f'echo $FLEET_ATTEMPT $$ >> {pids}; sleep 0.7; echo "\\"$FLEET_ATTEMPT\\"" > $FLEET_RESULT'
    mission = fleet.launch({"one": {"agent": agent_type, "run": script}}, folder=str(tmp_path))
    (pid,) = until(lambda: hosts.live_pids(pids))
    far_host.database.halt()
    try:
        until(lambda: hosts.have_ended(pid))  # it has ended by itself, and its outcome is in transit
        hosts.spawn(agent_type, near_host)
        assert hosts.wait(mission).state == "succeeded"
    finally:
        far_host.database.restore()
    # The fence refuses it, or the agent itself drops it if it has noticed first that its lease is over.
    until(lambda: re.search("the outcome was refused|its outcome is discarded", far_host.agent_log(cut_off)))
    assert hosts.attempts(mission) == [("one", 1, "lost"), ("one", 2, "succeeded")]
    assert str(Sortie.objects.get(mission=mission).attempts.get(number=2).result).endswith("/2")
    until(lambda: not hosts.alive(cut_off))
    until(lambda: Agent.objects.filter(type=agent_type, node=far_host.node, state="idle").exists())


@pytest.mark.drill
def test_a_halted_postgres_with_open_connections_blocks_nobody_forever(
    host_group: hosts.Hosts, agent_type: str, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    host = host_group.add("halted", FLEET_POSTGRES_TIMEOUT_S="1", FLEET_DRAIN_S="1")
    (agent,) = hosts.spawn(agent_type, host)
    fleet.launch(
        {"one": {"agent": agent_type, "run": f"echo $FLEET_ATTEMPT $$ >> {pids}; exec sleep 600"}}, folder=str(tmp_path)
    )
    (pid,) = until(lambda: hosts.live_pids(pids))
    host.database.halt()
    env = {**os.environ, **host.addresses(), "FLEET_POSTGRES_TIMEOUT_S": "1"}
    listing = warm.shared().manage("fleet_agents", "list", env=env, timeout=15)
    assert (listing.returncode, listing.stdout) == (1, "")
    assert listing.stderr.startswith("Postgres does not answer")
    until(lambda: hosts.have_ended(pid))
    until(lambda: "could not renew the leases: " in host.agent_log(agent))
    until(lambda: "no answer for" in host.log())
    host.send(signal.SIGTERM)
    assert host.process is not None
    assert host.process.wait(60) == 0
    host_group.drop(host)


def test_an_order_to_a_disconnected_host_is_carried_out_when_it_reconnects(far_host: Host, agent_type: str) -> None:
    first, second = hosts.spawn(agent_type, far_host, count=2)
    far_host.database.cut()
    operations.order(agents=[first.id], order=Agent.Order.TERMINATE, reason="It is not needed.")
    (third,) = operations.spawn(type=agent_type, node="far")
    far_host.database.restore()
    until(lambda: Agent.objects.get(id=first.id).state == "terminated")
    until(lambda: Agent.objects.get(id=third.id).state == "idle")
    assert {agent.id for agent in hosts.live(agent_type)} == {second.id, third.id}


def test_a_mission_continues_while_hosts_join_and_leave(near_host: Host, far_host: Host, agent_type: str) -> None:
    hosts.spawn(agent_type, near_host)
    hosts.spawn(agent_type, far_host)
    mission = fleet.launch({f"s{n:02}": {"agent": agent_type, "run": "sleep 0.1", "needs": [f"s{n - 2:02}"] if n > 1 else []}
                            for n in range(40)})  # fmt: skip
    for _ in range(3):
        far_host.database.cut()
        _progress(mission)
        far_host.database.restore()
        _progress(mission)
    assert hosts.wait(mission).state == "succeeded"
    assert sum(Sortie.objects.filter(mission=mission).values_list("tries", flat=True)) == 0


def _progress(mission: Mission) -> None:
    """Wait until a few more sorties of the mission have ended."""

    def count_succeeded() -> int:
        return Sortie.objects.filter(mission=mission, state="succeeded").count()

    initial_count = count_succeeded()
    until(lambda: count_succeeded() >= min(initial_count + 3, 40))
