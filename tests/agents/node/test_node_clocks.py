"""Hosts whose clocks are ten minutes off work with the others.

Leases, orders and heartbeats follow the database's clock and monotonic clocks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db.models.functions import Now

from agents import operations
from agents.models import Agent, Node
from fleet import ids
from fleet.events.models import Event
from missions import operations as operations_of_missions
from missions.models import Sortie
from tests.support import fleet
from tests.support.paths import CHECKOUT
from tests.support.processes import hosts
from tests.support.processes.hosts import Host
from tests.support.waiting import until

COMPILER = shutil.which("cc")
pytestmark = [
    pytest.mark.xdist_group("clocks"),
    pytest.mark.skipif(COMPILER is None, reason="the library that shifts the clock needs a C compiler"),
]
SHIFT_S = 600


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clock") / "shifted_clock.so"
    source = Path(__file__).with_name("shifted_clock.c")
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-O1", "-o", path, source], check=True)
    return path


def host_with_clock(host_group: hosts.Hosts, name: str, library: Path, seconds: int) -> Host:
    return host_group.add(name, LD_PRELOAD=str(library), FLEET_TEST_SHIFT=str(seconds))


def shift_of(host: Host, agent: Agent) -> float:
    """How many seconds the clock in an agent's log is ahead of this process's."""
    (line, *_) = until(lambda: [item for item in host.agent_log(agent).splitlines() if "runs sorties of type" in item])
    result = datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return (result - datetime.now(UTC)).total_seconds()


def test_hosts_with_wrong_clocks_lose_nothing_and_obey_orders_immediately(
    host_group: hosts.Hosts, library: Path
) -> None:
    hosts.agent_type("survey")
    ahead, behind = (
        host_with_clock(host_group, "ahead", library, SHIFT_S),
        host_with_clock(host_group, "behind", library, -SHIFT_S),
    )
    (early,) = hosts.spawn("survey", ahead)
    (late,) = hosts.spawn("survey", behind)
    assert abs(shift_of(ahead, early) - SHIFT_S) < 60
    assert abs(shift_of(behind, late) + SHIFT_S) < 60

    longer_than_a_lease = f"sleep {hosts.LEASE_S + 1.5}"
    mission = fleet.launch({name: {"agent": "survey", "run": longer_than_a_lease} for name in ("a", "b")})
    assert hosts.wait(mission).state == "succeeded"
    assert hosts.attempts(mission) == [("a", 1, "succeeded"), ("b", 1, "succeeded")]
    assert set(Sortie.objects.filter(mission=mission).values_list("agent", flat=True)) == {early.id, late.id}
    assert not Event.objects.filter(kind__in=["agent.lost", "node.lost"]).exists()

    pids = library.with_name("pids")
    mission = fleet.launch(
        {"one": {"agent": "survey", "run": f"echo $$ >> {pids}; case $FLEET_ATTEMPT in */1) sleep 600;; esac"}},
        folder=str(pids.parent),
    )
    until(lambda: hosts.live_pids(pids))
    hosts.kill(hosts.running_agent(mission))
    assert hosts.wait(mission).state == "succeeded"
    operations.order(agents=[item.id for item in hosts.live("survey")], order=Agent.Order.TERMINATE, reason="A test.")
    until(lambda: not hosts.live("survey"))


ASK = """
import json
from agents.models import Agent
from fleet.admin.pages import ago
from missions.queries import mission_json, roster
from tests.support import fleet
(agent,) = Agent.objects.filter(node__name={host!r})
mission = fleet.launch({{"waits": {{"agent": {idle!r}}}}})
mission.refresh_from_db()
print(json.dumps([roster.rows([agent])[0], roster.health([agent]), ago(agent.heartbeat_at), mission_json.summary(mission)]))
"""


@pytest.mark.parametrize("seconds", [SHIFT_S, -SHIFT_S])
def test_an_operator_with_a_wrong_clock_sees_and_records_correct_times(
    host_group: hosts.Hosts, library: Path, seconds: int
) -> None:
    hosts.agent_type("survey")
    idle = hosts.agent_type("nobody").name
    host = host_group.add(f"right{seconds}")
    hosts.spawn("survey", host)
    env = {**os.environ, **host.addresses(), "LD_PRELOAD": str(library), "FLEET_TEST_SHIFT": str(seconds)}
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", ASK.format(host=host.name, idle=idle)]
    result = subprocess.run(command, env=env, cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    agent, health, heartbeat, mission = json.loads(result.stdout)
    assert 0 <= agent["heartbeat_age_s"] < 30
    assert 0 <= agent["age_s"] < 60
    assert [item["health"] for item in health["agents"]] == ["healthy"]
    assert heartbeat.endswith("\u00a0s\u00a0ago")
    assert 0 <= mission["elapsed_s"] < 30
    waiting = Sortie.objects.get(mission=ids.decode(ids.MISSION, mission["id"]))
    assert waiting.ready_at is not None
    assert abs((waiting.ready_at - waiting.mission.created_at).total_seconds()) < 30
    operations_of_missions.cancel(mission=waiting.mission_id)
    host_group.drop(host)


def test_a_hosts_clock_does_not_decide_whether_a_node_is_up(host_group: hosts.Hosts, library: Path) -> None:
    heartbeat = Now() + timedelta(
        seconds=60
    )  # on another host, so that a heartbeat arrives while the second one starts
    Node.objects.create(name="taken", boot=str(ids.new()), pid=1, start_time=1.0, up=True, heartbeat_at=heartbeat)
    second = Host("taken", {"LD_PRELOAD": str(library), "FLEET_TEST_SHIFT": str(SHIFT_S)})
    try:
        second.start(wait=False)
        assert second.process is not None
        assert second.process.wait(60) != 0
        assert "is already up" in second.log()
    finally:
        second.remove()
