"""The supervisor of one host's agents: it starts them, restarts those that crash, and ends them with itself.

It is the direct parent of its agents (agents/birth.py), so it sees at once when one dies: the agent's row is ended as
lost, and the control loop gives its sorties to others without waiting for the lease.

It keeps one agent at each *post*: as many of each type as its row says, and those that were ordered. What to do comes
from rows (agents/operations/ordering.py); NOTIFY only says that it is time to look. One thread, because it forks.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Any

import psycopg
from django.conf import settings
from django.db import Error, connection

from agents import birth, logs, operations, processes
from agents.models import Agent, AgentType, Node
from agents.recording import Recorder

log = logging.getLogger("fleet.node")

LOOK_S = 0.2  # how soon the death of an agent is seen
ORDERS_S = 1.0  # how often rows are looked at where no notification came
BACKOFF_S = (0, 1, 2, 4, 8, 15)
STEADY_S = 60.0  # an agent that lived so long begins anew with its crashes


@dataclass(slots=True, eq=False)
class Post:
    """A place for one agent of a type, and the process that fills it now."""

    type: AgentType
    place: int
    concurrency: int
    kept: bool  # because its type says so, not because somebody ordered it
    agent: Agent | None = None
    child: birth.Child | None = None
    began: float = 0.0
    crashes: int = 0
    not_before: float = 0.0
    ordered: str = ""  # what it was told last
    kill_at: float | None = None


class Supervisor:
    """Keeps an agent at each post, and does as it is ordered."""

    def __init__(self, *, name: str) -> None:
        birth.warm()
        pid = os.getpid()
        self.node: Node = operations.join(name=name, pid=pid, start_time=processes.started(pid) or 0.0)
        self._clean_up()
        self.posts: dict[tuple[str, int], Post] = {}
        self._recorder = Recorder()
        self._recorder.resume(self.node)
        self._released: set[tuple[str, int]] = set()  # kept posts that somebody ordered away, or that were given up
        self._last_beat = self._last_look = 0.0
        self._ear: psycopg.Connection[Any] | None = None

    def run(self, *, ending: Event, alive: Callable[[], None]) -> None:
        """Until asked to end, calling `alive` each time round; then drain the agents and wait for them."""
        while not ending.is_set():
            try:
                self.step(told=self._listen(LOOK_S))
            except Error as fault:
                log.warning("Postgres does not answer: %s", str(fault).strip())
                connection.close()
            alive()
        self.stop()

    def step(self, *, told: bool = False) -> None:
        """Look after everything once."""
        now = time.monotonic()
        for post in list(self.posts.values()):
            if post.child is not None and post.child.poll() is not None:
                self._bury(post)
            if post.kill_at is not None and now > post.kill_at and post.child is not None:
                log.warning("%s did not end in time; killing it", post.agent)
                post.child.send(signal.SIGKILL)
        if told or now - self._last_look > ORDERS_S:
            self._last_look = now
            self._keep()
            self._take_orders()
        for post in list(self.posts.values()):
            if post.child is None and time.monotonic() >= post.not_before:
                self._start(post)
        if now - self._last_beat > settings.FLEET_HEARTBEAT_S:
            self._last_beat = now
            operations.beat(node=self.node)
        self._recorder.step(
            {post.agent.id: post.child.pid for post in self.posts.values() if post.agent and post.child}
        )

    def stop(self) -> None:
        """Ask every agent to end, wait, and kill what does not."""
        children = [post.child for post in self.posts.values() if post.child is not None]
        for child in children:
            child.send(signal.SIGTERM)
        deadline = time.monotonic() + settings.FLEET_DRAIN_S + 2 * settings.FLEET_GRACE_S
        while (left := [child for child in children if child.poll() is None]) and time.monotonic() < deadline:
            time.sleep(0.02)
        for child in left:
            log.warning("pid %d did not end; killing it", child.pid)
            child.send(signal.SIGKILL)
            os.waitpid(child.pid, 0)
        agents = [post.agent.id for post in self.posts.values() if post.agent is not None]
        for agent in agents:
            self._recorder.finish(agent=agent)
        try:
            operations.end(agents=agents, state=Agent.State.TERMINATED, reason="Its node was stopped.")
            operations.leave(node=self.node)
        except Error as fault:
            log.warning("could not say goodbye: %s", str(fault).strip())

    # ── Orders ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _listen(self, seconds: float) -> bool:
        """Wait so long at most for a notification. True where one came."""
        try:
            if self._ear is None:
                self._ear = _ear()
            return any(
                notice.payload == str(self.node.id) for notice in self._ear.notifies(timeout=seconds, stop_after=1)
            )
        except psycopg.Error as fault:
            log.warning("cannot hear orders: %s", str(fault).strip())
            if self._ear is not None:
                self._ear.close()
            self._ear = None
            time.sleep(seconds)
            return False

    def _keep(self) -> None:
        """Have a post for each agent that the types want here, and drain those that they want no more."""
        wanted: set[tuple[str, int]] = set()
        for type in AgentType.objects.filter(enabled=True, outside=False):
            for place in range(1, type.agents + 1):
                wanted.add((type.name, place))
                if (type.name, place) not in self.posts and (type.name, place) not in self._released:
                    self.posts[type.name, place] = Post(type, place, type.concurrency, kept=True)
        self._released &= wanted
        for key, post in list(self.posts.items()):
            if post.kept and key not in wanted:
                post.kept = False
                if post.agent is None:
                    del self.posts[key]
                else:
                    operations.order(
                        agents=[post.agent.id], what=Agent.Order.DRAIN, reason="Its type wants fewer agents here."
                    )

    def _take_orders(self) -> None:
        mine = Agent.objects.select_related("type").filter(node=self.node, state__in=Agent.LIVE)
        for agent in mine.filter(pid=None, state=Agent.State.SPAWNING, spawned_at__gte=self.node.joined_at):
            if not any(post.agent is not None and post.agent.id == agent.id for post in self.posts.values()):
                agent.node = self.node
                self.posts[agent.type_id, agent.place] = Post(
                    agent.type, agent.place, agent.concurrency, kept=False, agent=agent
                )
        orders = dict(mine.values_list("id", "order"))
        for post in self.posts.values():
            if post.agent is None or post.child is None:
                continue
            if post.agent.id not in orders:
                self._put_away(post)
            elif order := orders[post.agent.id]:
                self._obey(post, Agent.Order(order))

    def _obey(self, post: Post, order: Agent.Order) -> None:
        if post.ordered == order or post.agent is None or post.child is None:
            return
        log.info("%s is to %s", post.agent, order.value)
        post.ordered = order
        operations.draining(agent=post.agent.id)
        post.child.send(signal.SIGQUIT if order == Agent.Order.NOW else signal.SIGTERM)
        grace_s = 2 * settings.FLEET_GRACE_S
        if order == Agent.Order.NOW:
            post.kill_at = time.monotonic() + grace_s
        elif order != Agent.Order.DRAIN:
            post.kill_at = time.monotonic() + settings.FLEET_DRAIN_S + grace_s

    def _put_away(self, post: Post) -> None:
        """End a process whose row has ended: it was given up as lost, and has a successor to make room for."""
        if post.kill_at is None and post.child is not None:
            post.kill_at = time.monotonic() + 2 * settings.FLEET_GRACE_S
            post.child.send(signal.SIGQUIT)

    # ── Births and deaths ────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, post: Post) -> None:
        if post.agent is None:
            post.agent = operations.spawned(
                type=post.type, node=self.node, place=post.place, concurrency=post.concurrency, crashes=post.crashes
            )
        name = f"{post.type.name}-{post.place}"
        output = logs.path(type=post.type.name, place=post.place, node=self.node.name)
        self._recorder.begin(agent=post.agent.id, path=output)
        post.child = birth.bear(
            argv=[
                "worker", "--queues", post.type.queue, "--pool", "threads", "--concurrency", str(post.concurrency),
                "--hostname", f"{name}@{self.node.name}", "--without-mingle", "--without-gossip", "--loglevel", "INFO",
            ],
            env={
                "FLEET_AGENT": str(post.agent.id),
                "FLEET_AGENT_TYPE": post.type.name,
                "FLEET_NODE": self.node.name,
                "FLEET_HOME": str(settings.FLEET_HOME.root),
            },
            log=output,
        )  # fmt: skip
        post.began, post.ordered, post.kill_at = time.monotonic(), "", None
        pid = post.child.pid
        Agent.objects.filter(id=post.agent.id, pid=None).update(pid=pid, start_time=processes.started(pid))
        log.info("started %s (%s), pid %d", post.agent, name, pid)

    def _bury(self, post: Post) -> None:
        assert post.child is not None
        assert post.agent is not None
        code, agent = post.child.returncode or 0, post.agent
        self._recorder.finish(agent=agent.id)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        asked = bool(post.ordered)
        steady = time.monotonic() - post.began > STEADY_S
        crashes = 0 if asked else (1 if steady else post.crashes + 1)
        given_up = crashes > settings.FLEET_MAX_CRASHES
        if asked:
            operations.end(agents=[agent.id], state=Agent.State.TERMINATED, reason=f"It was told to {post.ordered}.")
        elif given_up:
            why = f"Its process ended with {how}, as its {crashes - 1} predecessors did; it is not started again."
            operations.end(agents=[agent.id], state=Agent.State.FAILED, reason=f"{why} See its log, then spawn one.")
        else:
            operations.end(
                agents=[agent.id], state=Agent.State.LOST, reason=f"Its process ended with {how}; see its log."
            )
        log.log(
            logging.INFO if asked else logging.WARNING,
            "%s (%s-%d) ended with %s%s", agent, post.type.name, post.place, how, "; given up" if given_up else "",
        )  # fmt: skip
        key = (post.type.name, post.place)
        if given_up or (asked and post.ordered != Agent.Order.RESTART):
            self.posts.pop(key, None)
            self._released.add(key)
            return
        wait = BACKOFF_S[min(max(crashes - 1, 0), len(BACKOFF_S) - 1)]
        post.child, post.agent, post.crashes, post.not_before = None, None, crashes, time.monotonic() + wait

    def _clean_up(self) -> None:
        """End what an earlier supervisor of this node left, politely, and say that it is lost."""
        left = operations.left_behind(node=self.node)
        if not left:
            return
        noted = [(agent.pid, agent.start_time) for agent in left if agent.pid and agent.start_time is not None]
        processes.end(noted, within_s=settings.FLEET_DRAIN_S + settings.FLEET_GRACE_S)
        ended = operations.end(
            agents=[agent.id for agent in left], state=Agent.State.LOST, reason="Its node was restarted."
        )
        log.warning("ended %d agents that an earlier supervisor of this node left", len(ended))


def _ear() -> psycopg.Connection[Any]:
    """A connection that hears orders; apart from Django's, so that a notification wakes the loop at once."""
    given = connection.get_connection_params()
    wanted = {"host", "port", "user", "password", "dbname", "connect_timeout", "sslmode", "sslrootcert", "options"}
    made: psycopg.Connection[Any] = psycopg.connect(
        **{key: value for key, value in given.items() if key in wanted}, autocommit=True, application_name="fleet node"
    )
    made.execute(f"LISTEN {operations.CHANNEL}")
    return made
