"""The supervisor of one host's agents: it starts them, restarts those that crash, and ends them with itself.

It is the direct parent of its agents, so it sees at once when one dies: the agent's row is ended as lost, and the
control loop gives its sorties to others without waiting for the lease.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from django.conf import settings
from django.db import Error, connection

from agents import operations
from agents.models import Agent, AgentType, Node
from fleet.services import identity

log = logging.getLogger("fleet.node")

LOOK_S = 0.2
BACKOFF_S = (1, 2, 4, 8, 15, 30)
STEADY_S = 60.0  # an agent that lived so long begins anew with its restarts


@dataclass(slots=True, eq=False)
class Post:
    """A place for one agent of a type, and the process that fills it now."""

    type: AgentType
    place: int
    process: subprocess.Popen[bytes] | None = None
    agent: Agent | None = None
    started: float = 0.0
    crashes: int = 0
    not_before: float = field(default=0.0)


class Supervisor:
    """Keeps one agent at each post."""

    def __init__(self, *, name: str) -> None:
        me = psutil.Process()
        self.node: Node = operations.join(name=name, pid=me.pid, start_time=me.create_time())
        self.posts = [
            Post(type=type, place=place)
            for type in AgentType.objects.filter(enabled=True)
            for place in range(1, type.agents + 1)
        ]

    def run(self, *, ending: threading.Event, alive: Callable[[], None]) -> None:
        """Until asked to end, calling `alive` each time round; then drain the agents and wait for them."""
        last_beat = 0.0
        while not ending.wait(LOOK_S):
            try:
                if time.monotonic() - last_beat > settings.FLEET_HEARTBEAT_S:
                    operations.beat(node=self.node)
                    last_beat = time.monotonic()
                self.step()
            except Error as fault:
                log.warning("Postgres does not answer: %s", str(fault).strip())
                connection.close()
            alive()
        self.stop()

    def step(self) -> None:
        """Look after each post once."""
        for post in self.posts:
            if post.process is not None and post.process.poll() is not None:
                self._bury(post)
            if post.process is None and time.monotonic() >= post.not_before:
                self._spawn(post)

    def stop(self) -> None:
        """Ask every agent to end, wait, and kill what does not."""
        running = [post for post in self.posts if post.process is not None]
        for post in running:
            assert post.process is not None
            post.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + settings.FLEET_DRAIN_S + 2 * settings.FLEET_GRACE_S
        for post in running:
            assert post.process is not None
            try:
                post.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("pid %d did not end; killing it", post.process.pid)
                post.process.kill()
                post.process.wait()
        try:
            left = [post.agent.id for post in running if post.agent is not None]
            operations.end(agents=left, state=Agent.State.TERMINATED, reason="Its node was stopped.")
            operations.leave(node=self.node)
        except Error as fault:
            log.warning("could not say goodbye: %s", str(fault).strip())

    def _spawn(self, post: Post) -> None:
        post.agent = operations.spawned(type=post.type, node=self.node)
        log_path = settings.FLEET_HOME.logs / f"agent-{post.type.name}-{post.place}.log"
        with log_path.open("ab") as output:
            post.process = subprocess.Popen(
                identity.launched([  # which has it end when this process is killed
                    sys.executable, "-m", "celery", "-A", "fleet.celery", "worker",
                    "--queues", post.type.queue, "--pool", "threads",
                    "--concurrency", str(post.type.concurrency),
                    "--hostname", f"{post.type.name}-{post.place}@{self.node.name}",
                    "--without-mingle", "--without-gossip", "--loglevel", "INFO",
                ]),
                cwd=settings.BASE_DIR,
                env={
                    **os.environ,
                    "FLEET_AGENT": str(post.agent.id),
                    "FLEET_AGENT_TYPE": post.type.name,
                    "FLEET_NODE": self.node.name,
                    "FLEET_HOME": str(settings.FLEET_HOME.root),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        post.started = time.monotonic()
        Agent.objects.filter(id=post.agent.id, pid=None).update(pid=post.process.pid)
        log.info("started %s (%s), pid %d, log %s", post.agent, post.type.name, post.process.pid, Path(log_path).name)

    def _bury(self, post: Post) -> None:
        assert post.process is not None
        assert post.agent is not None
        code = post.process.returncode
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        ended = operations.end(
            agents=[post.agent.id], state=Agent.State.LOST, reason=f"Its process ended with {how}; see its log."
        )
        post.crashes = 0 if time.monotonic() - post.started > STEADY_S else post.crashes + 1
        wait = BACKOFF_S[min(post.crashes, len(BACKOFF_S)) - 1] if post.crashes > 1 else 0
        post.process, post.agent, post.not_before = None, None, time.monotonic() + wait
        log.warning("an agent of type %s ended (%s)%s; next start in %d s",
                    post.type.name, how, "" if ended else ", as it said", wait)  # fmt: skip
