"""A fleet of several hosts for tests: real nodes and agents on the test's own database.

Each host has a private folder, and a proxy to Postgres and one to Redis, so that a test can break its connections. The
control loop runs in the test's process.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import psutil
from django.conf import settings
from django.db import connection
from django.test import override_settings

from agents import operations
from agents.models import Agent, AgentType, Node
from fleet.celery import app
from fleet.host import processes
from missions.control.loop import ControlLoop
from missions.hints import HintPublisher
from missions.models import Attempt, Mission, Sortie
from tests.support.paths import CHECKOUT
from tests.support.postgres import databases
from tests.support.processes import child_coverage
from tests.support.services.proxy import Proxy
from tests.support.waiting import until
from tests.support.work import ledger

LEASE_S = 4.0
TIMES = {
    "FLEET_LEASE_S": LEASE_S,
    "FLEET_RENEW_S": 0.3,
    "FLEET_HEARTBEAT_S": 0.5,
    "FLEET_CONTROL_S": 0.2,
    "FLEET_POLL_INTERVAL_S": 1.0,
    "FLEET_GRACE_S": 1.0,
    "FLEET_DRAIN_S": 2.0,
}


class Host:
    """One host: its node, and its proxies to Postgres and Redis."""

    def __init__(self, name: str, env: Mapping[str, str]) -> None:
        self.name = name
        self.home = Path(tempfile.mkdtemp(prefix=f"fleet-{name}-"))
        self.database = Proxy(settings.FLEET_ENDPOINTS.postgres.port)
        self.redis = Proxy(urlsplit(settings.FLEET_ENDPOINTS.redis_url).port or 0)
        self._proxies = ExitStack()
        self._env = env
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True, **env: str) -> None:
        """Start its node; with `wait`, wait until it is up."""
        if not self.database.port:
            self._proxies.enter_context(self.database)
            self._proxies.enter_context(self.redis)
        joined = list(Node.objects.filter(name=self.name).values_list("joined_at", flat=True))
        with (self.home / "node.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "fleet_node", "--name", self.name],
                cwd=CHECKOUT, env={**os.environ, **child_coverage.environment(), **self.addresses(), **self._env, **env},
                stdout=log, stderr=log,
            )  # fmt: skip
        if wait:
            until(lambda: Node.objects.filter(name=self.name, up=True).exclude(joined_at__in=joined).exists())

    def addresses(self) -> dict[str, str]:
        """The environment with which a command on this host finds the services, through the proxies."""
        endpoints = settings.FLEET_ENDPOINTS
        redis = urlsplit(endpoints.redis_url)
        credentials = redis.netloc.rpartition("@")[0]
        return {
            "FLEET_HOME": str(self.home),
            "DATABASE_URL": f"postgresql://{endpoints.postgres.user}:{quote(endpoints.postgres.password)}"
            f"@127.0.0.1:{self.database.port}/{connection.settings_dict['NAME']}",
            "REDIS_URL": urlunsplit(redis._replace(netloc=f"{credentials}@127.0.0.1:{self.redis.port}")),
        }

    @property
    def node(self) -> Node:
        return Node.objects.get(name=self.name)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def log(self) -> str:
        return (self.home / "node.log").read_text()

    def agent_log(self, agent: Agent) -> str:
        return self.agent_log_path(agent).read_text()

    def agent_log_path(self, agent: Agent) -> Path:
        return self.home / "private" / "logs" / f"agent-{agent.name}.log"

    def children(self) -> set[int]:
        """The pids of its node's children that have not ended."""
        pids = set()
        for child in psutil.Process(self.pid).children():
            with suppress(psutil.NoSuchProcess):  # it has ended since
                if child.status() != psutil.STATUS_ZOMBIE:
                    pids.add(child.pid)
        return pids

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def halt(self) -> None:
        """Halt its node. The agents continue."""
        halt(self.pid)

    def stop(self) -> None:
        """Restore the connections and end the node: with SIGTERM, and if it does not end, with SIGKILL."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.database.restore()
            self.redis.restore()
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def remove(self) -> None:
        self.stop()
        self._proxies.close()
        shutil.rmtree(self.home, ignore_errors=True)


class Hosts:
    """All hosts of a test."""

    def __init__(self) -> None:
        self._hosts: list[Host] = []

    def add(self, name: str, **env: str) -> Host:
        host = Host(name, {**{setting: str(value) for setting, value in TIMES.items()}, **env})
        self._hosts.append(host)
        host.start()
        return host

    def drop(self, host: Host) -> None:
        self._hosts.remove(host)
        host.remove()

    def remove(self) -> None:
        for host in self._hosts:
            if host.process is not None and host.process.poll() is None:
                host.send(signal.SIGTERM)
        for host in self._hosts:
            host.remove()


@contextmanager
def database(blocker: Any) -> Iterator[None]:
    """A new database for a whole module of tests, so that its hosts can outlive single tests.

    No agent type keeps agents there. `blocker`: pytest-django's.
    """
    with databases.fresh(blocker):
        AgentType.objects.update(agents=0)
        yield


@contextmanager
def control() -> Iterator[None]:
    """Run a control loop in a thread."""
    ending = threading.Event()

    def run() -> None:
        hint_publisher = HintPublisher(app)
        hint_publisher.start()
        try:
            ControlLoop(hint_publisher=hint_publisher).run(ending=ending, on_beat=lambda: None)
        finally:
            hint_publisher.stop()
            connection.close()

    with override_settings(**TIMES):
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()


def spawn(type: str, host: Host, *, count: int = 1, concurrency: int | None = None) -> list[Agent]:
    """Start agents on a host and wait until they are idle."""
    ids = [agent.id for agent in operations.spawn(type=type, node=host.name, count=count, concurrency=concurrency)]
    until(lambda: not Agent.objects.filter(id__in=ids, state="spawning").exists())
    agents = list(Agent.objects.filter(id__in=ids).order_by("ordinal"))
    assert [agent.state for agent in agents] == ["idle"] * count, [(agent.state, agent.reason) for agent in agents]
    return agents


def end_agents(*agents: Agent) -> None:
    """End every live agent of the types of these agents, including their successors."""
    same_types = Agent.objects.filter(type__in={agent.type_id for agent in agents}, state__in=Agent.LIVE)

    def all_ended() -> bool:
        remaining = list(same_types.all())
        operations.order(agents=[agent.id for agent in remaining], order=Agent.Order.NOW, reason="The test is over.")
        for agent in remaining:
            if agent.state == Agent.State.DRAINING and alive(agent):
                kill(agent)  # do not wait until it has drained
        return not remaining

    until(all_ended)


def live(type: str) -> list[Agent]:
    return list(Agent.objects.filter(type=type, state__in=Agent.LIVE).order_by("node", "ordinal", "id"))


def agent_type(name: str, **fields: Any) -> AgentType:
    """Create or change an agent type for a test. Nodes keep no agents of it."""
    return AgentType.objects.update_or_create(name=name, defaults={"agents": 0, "concurrency": 1, **fields})[0]


def running(mission: Mission) -> list[Sortie]:
    return list(Sortie.objects.filter(mission=mission, state="running").order_by("key"))


def running_agent(mission: Mission) -> Agent:
    """The agent that runs the mission's only running sortie."""
    (sortie,) = running(mission)
    assert sortie.agent is not None
    return sortie.agent


def wait(mission: Mission, *, within_s: float = 120) -> Mission:
    """Wait until the mission has ended; then check its events, and that no sortie succeeded twice."""
    until(lambda: Mission.objects.filter(id=mission.id, finished_at__isnull=False).exists(), within_s=within_s)
    rebuilt = ledger.check(mission.id, sequential=False)
    assert all(account.succeeded <= 1 for account in rebuilt.sorties.values()), rebuilt
    mission.refresh_from_db()
    return mission


def attempts(mission: Mission) -> list[tuple[str, int, str]]:
    """The sortie's key, the number and the state of each attempt."""
    rows = Attempt.objects.filter(sortie__mission=mission).order_by("sortie__key", "number")
    return [(attempt.sortie.key, attempt.number, attempt.state) for attempt in rows.select_related("sortie")]


def kill(agent: Agent) -> None:
    """Kill the process of an agent (SIGKILL)."""
    assert agent.pid is not None
    os.kill(agent.pid, signal.SIGKILL)


def halt(pid: int | None) -> None:
    """Halt a process (SIGSTOP), and wait until none of its threads runs any more: the signal alone returns earlier."""
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    until(lambda: set(_states_of_threads(pid)) <= {"T"})


def _states_of_threads(pid: int) -> list[str]:
    """The state of each thread of a process, as in proc(5); none if it has ended."""
    try:
        stats = [(thread / "stat").read_text() for thread in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
    return [stat.rpartition(")")[2].split()[0] for stat in stats]


def alive(agent: Agent) -> bool:
    return processes.is_alive(pid=agent.pid, start_time=agent.start_time)


def have_ended(*pids: int) -> bool:
    return all(processes.start_time_of(pid) is None for pid in pids)


def live_pids(path: Path) -> list[int]:
    """The host's pids of the live processes that have written a line `$FLEET_ATTEMPT $$` to this file.

    The line contains the pid that the process has inside its sandbox.
    """
    pids = []
    for line in path.read_text().splitlines() if path.exists() else ():
        marker, _, inner_pid = line.rpartition(" ")
        pids += [process.pid for process in psutil.process_iter() if _wrote(process, marker, inner_pid)]
    return pids


def _wrote(process: psutil.Process, marker: str, inner_pid: str) -> bool:
    """Whether the process has this pid inside its sandbox and runs this attempt. An empty marker means any attempt."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
        pids = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
        if len(pids) < 2 or pids[-1] != inner_pid:
            return False
        attempt = process.environ().get("FLEET_ATTEMPT")
    except (OSError, psutil.Error):
        return False
    return attempt == marker if marker else attempt is not None


def _is_shim(process: psutil.Process) -> bool:
    try:
        return process.name() != "bwrap" and "agents/shim" in " ".join(process.cmdline())
    except psutil.Error:  # it has ended meanwhile
        return False


def shim(agent: Agent) -> psutil.Process:
    """The shim process of this agent's only attempt, inside the sandbox."""
    (process,) = filter(_is_shim, psutil.Process(agent.pid).children(recursive=True))
    return process


@contextmanager
def host_group(blocker: Any) -> Iterator[Hosts]:
    """A new database and a control loop, without hosts. Removes all hosts that are added."""
    with database(blocker), control():
        hosts = Hosts()
        try:
            yield hosts
        finally:
            hosts.remove()
