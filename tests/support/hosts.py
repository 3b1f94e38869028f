"""A fleet of several hosts for tests: real nodes and agents on the test's own database, each with a folder of its own and,
where a test wants to spoil it, a way of its own to Postgres and Redis. The control loop runs in the test's process.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import psutil
from django.conf import settings
from django.db import connection
from django.test import override_settings

from agents import operations
from agents.models import Agent, AgentType, Node
from fleet import processes
from fleet.celery import app
from missions.control.loop import Control
from missions.hints import Hinter
from missions.models import Attempt, Mission, Sortie
from tests.support import databases, fleet, ledger
from tests.support.measuring import measured
from tests.support.proxy import Proxy

CHECKOUT = Path(__file__).resolve().parents[2]
LEASE_S = 4.0
TIMES = {
    "FLEET_LEASE_S": LEASE_S,
    "FLEET_RENEW_S": 0.3,
    "FLEET_HEARTBEAT_S": 0.5,
    "FLEET_CONTROL_S": 0.2,
    "FLEET_LISTEN_S": 1.0,
    "FLEET_GRACE_S": 1.0,
    "FLEET_DRAIN_S": 2.0,
}


class Host:
    """One host: its node, and the ways from it."""

    def __init__(self, name: str, env: Mapping[str, str]) -> None:
        self.name = name
        self.home = Path(tempfile.mkdtemp(prefix=f"fleet-{name}-"))
        self.database = Proxy(settings.FLEET_ENDPOINTS.postgres.port)
        self.redis = Proxy(urlsplit(settings.FLEET_ENDPOINTS.redis_url).port or 0)
        self._ways = ExitStack()
        self._env = env
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True, **env: str) -> None:
        """Start its node; `wait` until it is up."""
        if not self.database.port:
            self._ways.enter_context(self.database)
            self._ways.enter_context(self.redis)
        joined = list(Node.objects.filter(name=self.name).values_list("joined_at", flat=True))
        with (self.home / "node.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "fleet_node", "--name", self.name],
                cwd=CHECKOUT, env={**os.environ, **measured(), **self.addresses(), **self._env, **env},
                stdout=log, stderr=log,
            )  # fmt: skip
        if wait:
            fleet.until(lambda: Node.objects.filter(name=self.name, up=True).exclude(joined_at__in=joined).exists())

    def addresses(self) -> dict[str, str]:
        """What a command on this host is given to find the services."""
        where = settings.FLEET_ENDPOINTS
        redis = urlsplit(where.redis_url)
        credentials = redis.netloc.rpartition("@")[0]
        return {
            "FLEET_HOME": str(self.home),
            "DATABASE_URL": f"postgresql://{where.postgres.user}:{quote(where.postgres.password)}"
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
        return self.log_of(agent).read_text()

    def log_of(self, agent: Agent) -> Path:
        return self.home / "private" / "logs" / f"agent-{agent.name}.log"

    def children(self) -> set[int]:
        """The processes that its node has started and that have not ended."""
        return {one.pid for one in psutil.Process(self.pid).children() if one.status() != psutil.STATUS_ZOMBIE}

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self) -> None:
        """Let everything through and end the node, politely if it agrees."""
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
        self._ways.close()
        shutil.rmtree(self.home, ignore_errors=True)


class Hosts:
    """All hosts of the fleet, and what an operator does."""

    def __init__(self) -> None:
        self._all: list[Host] = []

    def add(self, name: str, **env: str) -> Host:
        made = Host(name, {**{name: str(value) for name, value in TIMES.items()}, **env})
        self._all.append(made)
        made.start()
        return made

    def drop(self, host: Host) -> None:
        self._all.remove(host)
        host.remove()

    def remove(self) -> None:
        for host in self._all:
            if host.process is not None and host.process.poll() is None:
                host.send(signal.SIGTERM)
        for host in self._all:
            host.remove()


@contextmanager
def database(blocker: Any) -> Iterator[None]:
    """A database of its own for a whole module of tests, so that their hosts live on from one to the next. `blocker`:
    pytest-django's. No type keeps agents there."""
    with databases.fresh(blocker):
        AgentType.objects.update(agents=0)
        yield


@contextmanager
def control() -> Iterator[None]:
    """A control loop, in a thread."""
    ending = threading.Event()

    def run() -> None:
        hinter = Hinter(app)
        hinter.start()
        try:
            Control(hinter=hinter).run(ending=ending, alive=lambda: None)
        finally:
            hinter.stop()
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
    """Agents on a host that have reported."""
    made = operations.spawn(type=type, node=host.name, count=count, concurrency=concurrency)
    fleet.until(lambda: not Agent.objects.filter(id__in=[one.id for one in made], state="spawning").exists())
    found = list(Agent.objects.filter(id__in=[one.id for one in made]).order_by("place"))
    assert [one.state for one in found] == ["idle"] * count, [(one.state, one.reason) for one in found]
    return found


def away(*agents: Agent) -> None:
    """End what still lives of these, and their successors: every agent of their types."""
    left = Agent.objects.filter(type__in={one.type_id for one in agents}, state__in=Agent.LIVE)

    def none_lives() -> bool:
        now = list(left.all())
        operations.order(agents=[one.id for one in now], order=Agent.Order.NOW, reason="The test is over.")
        for one in now:
            if one.state == Agent.State.DRAINING and alive(one):
                kill(one)  # its node has told it; no test needs to wait
        return not now

    until(none_lives)


def live(type: str) -> list[Agent]:
    return list(Agent.objects.filter(type=type, state__in=Agent.LIVE).order_by("node", "place", "id"))


def kind(name: str, **more: Any) -> AgentType:
    """An agent type of a test's own."""
    return AgentType.objects.update_or_create(name=name, defaults={"agents": 0, "concurrency": 1, **more})[0]


def running(mission: Mission) -> list[Sortie]:
    return list(Sortie.objects.filter(mission=mission, state="running").order_by("key"))


def flier(mission: Mission) -> Agent:
    """Who flies its only running sortie."""
    (sortie,) = running(mission)
    assert sortie.agent is not None
    return sortie.agent


def wait(mission: Mission, *, within_s: float = 60) -> Mission:
    """Until it has ended; its events are held to the arrows then, and each success to one acceptance."""
    fleet.until(lambda: Mission.objects.filter(id=mission.id, finished_at__isnull=False).exists(), within_s=within_s)
    held = ledger.check(mission.id, alone=False)
    assert all(one.succeeded <= 1 for one in held.sorties.values()), held
    mission.refresh_from_db()
    return mission


def attempts(mission: Mission) -> list[tuple[str, int, str]]:
    """Each attempt with its sortie's key, number and state."""
    found = Attempt.objects.filter(sortie__mission=mission).order_by("sortie__key", "number")
    return [(one.sortie.key, one.number, one.state) for one in found.select_related("sortie")]


def kill(agent: Agent) -> None:
    """kill -9 of its process."""
    assert agent.pid is not None
    os.kill(agent.pid, signal.SIGKILL)


def alive(agent: Agent) -> bool:
    return processes.is_alive(pid=agent.pid, start_time=agent.start_time)


def gone(*pids: int) -> bool:
    return all(processes.started(pid) is None for pid in pids)


def noted(path: Path) -> list[int]:
    """The pids that living processes of sorties have here. Each of them wrote a line `$FLEET_ATTEMPT $$`, which says what its
    pid is in its sandbox."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        marker, _, pid = line.rpartition(" ")
        found += [one.pid for one in psutil.process_iter() if _wrote(one, marker, pid)]
    return found


def _wrote(process: psutil.Process, marker: str, pid: str) -> bool:
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
        inner = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
        if len(inner) < 2 or inner[-1] != pid:
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
    """The shim of the only attempt of this agent: in the sandbox, below bubblewrap."""
    (found,) = filter(_is_shim, psutil.Process(agent.pid).children(recursive=True))
    return found


def until(true: Callable[[], Any], *, within_s: float = 60) -> Any:
    deadline = time.monotonic() + within_s
    while not (value := true()):
        assert time.monotonic() < deadline, f"not true within {within_s} s"
        time.sleep(0.02)
    return value


@contextmanager
def house(blocker: Any) -> Iterator[Hosts]:
    """No hosts yet, over a database of their own and with a control loop."""
    with database(blocker), control():
        all_hosts = Hosts()
        try:
            yield all_hosts
        finally:
            all_hosts.remove()
