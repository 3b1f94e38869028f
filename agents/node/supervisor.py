"""The supervisor of one host's agents: it starts them, restarts those that crash, and ends them with itself.

It is the direct parent of its agents (agents/node/forking.py), so it sees at once when one dies: the agent's row is ended as
lost, and once all that it flew is gone too (agents/node/orphans.py) the control loop gives its sorties to others without
waiting for the lease.

It keeps one agent at each *post*: as many of each type as its row says, and those that were ordered. What to do comes
from rows (agents/operations/ordering.py); NOTIFY only says that it is time to look. One thread, because it forks.

Without Postgres it changes nothing: its agents go on or end by their own clocks, and what it has seen meanwhile it says
as soon as it can.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID

import psycopg
from django.conf import settings
from django.db import Error, connection

from agents import operations
from agents.drivers import reaper
from agents.models import Agent, AgentType, Node
from agents.node import forking, log_shipping
from agents.node.orphans import Orphans
from agents.node.recorder import Recorder
from fleet import postgres, processes

log = logging.getLogger("fleet.node")

LOOK_S = 0.2  # how soon the death of an agent is seen
MOURNING_S = 0.05  # and the end of what it left
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
    proven: bool = True  # False: ordered, and none has come up yet; one that does not is not tried again
    agent: Agent | None = None
    child: forking.Child | None = None
    began: float = 0.0
    crashes: int = 0
    not_before: float = 0.0
    ordered: str = ""  # what it was told last
    hurry_at: float | None = None  # when it is told to stop what it flies
    kill_at: float | None = None


class Replaced(Exception):
    """Another supervisor has taken the node's name, while this one was not heard of."""


class Supervisor:
    """Keeps an agent at each post, and does as it is ordered."""

    def __init__(self, *, name: str) -> None:
        forking.warm()
        pid = os.getpid()
        surviving_processes = operations.surviving_processes(name=name)
        self.node: Node = operations.join(name=name, pid=pid, start_time=processes.started(pid) or 0.0)
        self._orphans = Orphans()
        self._clean_up(surviving_processes)
        self._mourned: dict[UUID, float] = {}  # agents that have ended, and when, until all of their work has too
        self.posts: dict[tuple[str, int], Post] = {}
        self._cordoned = True  # until the first look
        self._recorder = Recorder()
        self._recorder.resume(self.node)
        self._released: set[tuple[str, int]] = set()  # kept posts that somebody ordered away, or that were given up
        self._last_beat = self._last_look = -math.inf
        self._listener: psycopg.Connection[Any] | None = None

    def run(self, *, ending: Event, alive: Callable[[], None]) -> None:
        """Until asked to end, calling `alive` each time round; then drain the agents and wait for them."""
        while not ending.is_set():
            try:
                self.step(told=self._listen(MOURNING_S if self._mourned else LOOK_S))
            except Error as fault:
                log.warning("Postgres does not answer: %s", str(fault).strip())
                connection.close()
            except Replaced:
                log.error("another node called %s has taken this one's place; it ends, with its agents", self.node.name)
                break
            alive()
        self.stop()

    def step(self, *, told: bool = False) -> None:
        """Look after everything once."""
        now = time.monotonic()
        for post in self.posts.values():  # first what needs no database
            self._enforce_deadlines(post, now)
        self._orphans.look(agents=self._pids())
        for post in list(self.posts.values()):
            if post.child is not None and post.child.poll() is not None:
                self._handle_exit(post)
                self._last_look = -math.inf  # somebody may wait for its place
        if self._mourned:
            self._mourn()
        if told or now - self._last_look > ORDERS_S:
            self._last_look = now
            self._keep()
            self._take_orders()
        for post in list(self.posts.values()):
            if post.child is None and time.monotonic() >= post.not_before:
                self._start(post)
        if now - self._last_beat > settings.FLEET_HEARTBEAT_S:
            self._last_beat = now
            if not operations.beat(node=self.node):
                raise Replaced
        self._recorder.step(
            {post.agent.id: post.child.pid for post in self.posts.values() if post.agent and post.child}
        )

    def stop(self) -> None:
        """Ask every agent to end, wait, and kill what does not."""
        children = [post.child for post in self.posts.values() if post.child is not None]
        for child in children:
            child.send(signal.SIGTERM)
        deadline = time.monotonic() + settings.FLEET_DRAIN_S + 2 * settings.FLEET_GRACE_S
        agents = [post.agent.id for post in self.posts.values() if post.agent is not None]
        why = "Its node was stopped."
        heard = self._say(lambda: operations.order(agents=agents, what=Agent.Order.TERMINATE, reason=why))
        while (left := [child for child in children if child.poll() is None]) and time.monotonic() < deadline:
            time.sleep(0.02)
        for child in left:
            log.warning("pid %d did not end; killing it", child.pid)
            child.send(signal.SIGKILL)
            os.waitpid(child.pid, 0)
        reaped = self._orphans.await_end(agents=())
        if not (heard or self._say(connection.ensure_connection)):
            return  # each of these would wait for it again
        for agent in agents:
            self._recorder.finish(agent=agent)
        self._say(lambda: operations.end(agents=agents, state=Agent.State.TERMINATED, reason=why, reaped=reaped))
        if reaped and self._mourned:
            self._say(lambda: operations.reaped(agents=list(self._mourned)))
        self._say(lambda: operations.leave(node=self.node))

    def _pids(self) -> set[int]:
        """Of the agents that it has started and not heard the end of."""
        return {post.child.pid for post in self.posts.values() if post.child and post.child.returncode is None}

    def _say(self, what: Callable[[], object]) -> bool:
        """False where Postgres did not hear it."""
        try:
            what()
        except Error as fault:
            log.warning("could not say that this node was stopped: %s", str(fault).strip())
            connection.close()
            return False
        return True

    # ── Orders ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _listen(self, seconds: float) -> bool:
        """Wait so long at most for a notification. True where one came."""
        try:
            if self._listener is None:
                self._listener = _listener()
            return any(
                notice.payload == str(self.node.id) for notice in self._listener.notifies(timeout=seconds, stop_after=1)
            )
        except psycopg.Error as fault:
            log.warning("cannot hear orders: %s", str(fault).strip())
            if self._listener is not None:
                self._listener.close()
            self._listener = None
            time.sleep(seconds)
            return False

    def _keep(self) -> None:
        """Have a post for each agent that the types want here, and drain those that they want no more. While the node is
        cordoned there are no new posts, and those that were ordered away or given up may come back afterwards."""
        before, self._cordoned = self._cordoned, self._is_cordoned()
        if self._cordoned:
            self._released.clear()
        elif before:
            for agent in operations.interrupted(node=self.node):
                post = Post(agent.type, agent.place, agent.concurrency, kept=False)
                self.posts.setdefault((agent.type_id, agent.place), post)
        types = {type.name: type for type in AgentType.objects.filter(enabled=True, outside=False)}
        wanted = {(type.name, place) for type in types.values() for place in range(1, type.agents + 1)}
        self._released &= wanted
        for name, place in sorted(wanted - self.posts.keys() - self._released):
            if len(self.posts) < self.node.places and not self._cordoned:
                self.posts[name, place] = Post(types[name], place, types[name].concurrency, kept=True)
        for key, post in list(self.posts.items()):
            if (type := types.get(post.type.name)) is None:
                self._let_go(key, post, "Its type is disabled.")
            elif post.kept and key not in wanted:
                self._let_go(key, post, "Its type wants fewer agents here.")
            else:
                post.type = type
                if post.kept:
                    post.concurrency = type.concurrency  # of its successors

    def _is_cordoned(self) -> bool:
        return Node.objects.filter(id=self.node.id, cordoned=True).exists()

    def _let_go(self, key: tuple[str, int], post: Post, why: str) -> None:
        post.kept = False
        if post.agent is None:
            del self.posts[key]
        elif not post.ordered:
            operations.order(agents=[post.agent.id], what=Agent.Order.DRAIN, reason=why)

    def _take_orders(self) -> None:
        mine = Agent.objects.select_related("type").filter(node=self.node, state__in=Agent.LIVE)
        filled = {post.agent.id for post in self.posts.values() if post.agent is not None}
        for agent in mine.filter(pid=None, state=Agent.State.SPAWNING).exclude(id__in=filled).order_by("id"):
            self._take_on(agent)
        orders = dict(mine.values_list("id", "order"))
        for key, post in list(self.posts.items()):
            if post.agent is None:
                continue
            if post.child is None:
                if orders.get(post.agent.id, "gone"):  # ordered away, or given up, before it was started
                    operations.end(
                        agents=[post.agent.id],
                        state=Agent.State.TERMINATED,
                        reason="It was ended before it began.",
                        reaped=True,
                    )
                    del self.posts[key]
            elif post.agent.id not in orders:
                self._put_away(post)
            elif order := orders[post.agent.id]:
                self._obey(post, Agent.Order(order))

    def _take_on(self, agent: Agent) -> None:
        """An agent that was ordered. It waits where its place is that of a process whose row has ended and which is ending;
        who waits in its place for the time after a crash, and so has no row, moves up."""
        agent.node = self.node
        key = (agent.type_id, agent.place)
        new = Post(agent.type, agent.place, agent.concurrency, kept=False, proven=False, agent=agent)
        there = self.posts.get(key)
        if there is not None and there.agent is not None:
            return
        self.posts[key] = new
        if there is not None:
            new.kept, there.kept = there.kept, False
            there.place = next(
                place for place in range(1, len(self.posts) + 2) if (there.type.name, place) not in self.posts
            )
            self.posts[there.type.name, there.place] = there

    def _obey(self, post: Post, order: Agent.Order) -> None:
        if post.ordered == order or post.agent is None or post.child is None:
            return
        log.info("%s is ordered: %s", post.agent, order.value)
        post.ordered = order
        operations.draining(agent=post.agent.id)
        if order != Agent.Order.NOW:
            post.child.send(signal.SIGTERM)
        if order != Agent.Order.DRAIN:
            post.hurry_at = time.monotonic() + (0 if order == Agent.Order.NOW else settings.FLEET_DRAIN_S)
        self._enforce_deadlines(post, time.monotonic())

    def _enforce_deadlines(self, post: Post, now: float) -> None:
        """An agent that is to end by a time is told to stop what it flies then, and killed if it does not obey."""
        if post.child is None:
            return
        if post.hurry_at is not None and now >= post.hurry_at:
            post.child.send(signal.SIGQUIT)
            post.hurry_at, post.kill_at = None, now + 2 * settings.FLEET_GRACE_S + 1
        elif post.kill_at is not None and now > post.kill_at:
            log.warning("%s did not end in time; killing it", post.agent)
            post.child.send(signal.SIGKILL)
            post.kill_at = now + 1

    def _put_away(self, post: Post) -> None:
        """End a process whose row has ended: it was given up as lost, and has a successor to make room for."""
        if post.hurry_at is None and post.kill_at is None:
            post.hurry_at = time.monotonic()

    # ── Births and deaths ────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, post: Post) -> None:
        if post.agent is None:
            there = operations.capacity()
            if there.room < 1:
                post.not_before = time.monotonic() + BACKOFF_S[-1]
                log.warning("%s-%d is not started: %s", post.type.name, post.place, there)
                return
            post.agent = operations.spawned(
                type=post.type, node=self.node, place=post.place, concurrency=post.concurrency, crashes=post.crashes
            )
        name = f"{post.type.name}-{post.place}"
        output = log_shipping.path(type=post.type.name, place=post.place, node=self.node.name)
        self._recorder.begin(agent=post.agent.id, path=output)
        try:
            post.child = self._fork(post, output)
        except OSError as fault:  # no memory, no pid
            post.not_before = time.monotonic() + BACKOFF_S[-1]
            log.error("could not fork %s, trying again in %d s: %s", name, BACKOFF_S[-1], fault)
            return
        post.began, post.ordered, post.hurry_at, post.kill_at = time.monotonic(), "", None, None
        pid = post.child.pid
        Agent.objects.filter(id=post.agent.id, pid=None).update(pid=pid, start_time=processes.started(pid))
        log.info("started %s (%s), pid %d", post.agent, name, pid)

    def _fork(self, post: Post, output: Path) -> forking.Child:
        assert post.agent is not None
        return forking.fork_agent(
            argv=[
                "worker", "--queues", post.type.queue, "--pool", "threads", "--concurrency", str(post.concurrency),
                "--hostname", f"{post.type.name}-{post.place}@{self.node.name}",
                "--without-mingle", "--without-gossip", "--loglevel", "INFO",
            ],
            env={
                "FLEET_AGENT": str(post.agent.id),
                "FLEET_AGENT_TYPE": post.type.name,
                "FLEET_NODE": self.node.name,
                "FLEET_HOME": str(settings.FLEET_HOME.root),
            },
            log=output,
        )  # fmt: skip

    def _handle_exit(self, post: Post) -> None:
        """Say how an agent ended, and what comes of its post. Does nothing twice where Postgres fails in the middle."""
        assert post.child is not None
        assert post.agent is not None
        code, agent = post.child.returncode or 0, post.agent
        self._recorder.finish(agent=agent.id)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        asked = bool(post.ordered)
        stood = Agent.objects.filter(id=agent.id).values_list("state", flat=True).first()
        came_up = stood not in {Agent.State.SPAWNING, Agent.State.FAILED}
        post.proven |= came_up
        crashes = post.crashes
        if asked or (came_up and time.monotonic() - post.began > STEADY_S):
            crashes = 0
        if not asked and stood != Agent.State.LOST:  # it ended by itself; else its host was cut off, or it was halted
            crashes += 1
        given_up = not asked and (crashes > settings.FLEET_MAX_CRASHES or not (post.proven or post.kept))
        if asked:
            state, reason = Agent.State.TERMINATED, f"It was told to {post.ordered}."
        elif not came_up:
            state = Agent.State.FAILED
            reason = (
                f"Its process ended with {how} before it reported; see its log{', then spawn one' if given_up else ''}."
            )
        elif given_up:
            why = f"Its process ended with {how}, as its {crashes - 1} predecessors did; it is not started again."
            state, reason = Agent.State.FAILED, f"{why} See its log, then spawn one."
        else:
            state, reason = Agent.State.LOST, f"Its process ended with {how}; see its log."
        operations.end(agents=[agent.id], state=state, reason=reason)
        self._mourned.setdefault(agent.id, time.monotonic())
        log.log(
            logging.INFO if asked else logging.WARNING,
            "%s (%s-%d) ended with %s%s", agent, post.type.name, post.place, how, "; given up" if given_up else "",
        )  # fmt: skip
        key = (post.type.name, post.place)
        if given_up or (asked and post.ordered != Agent.Order.RESTART):
            self.posts.pop(key, None)
            if post.kept:
                self._released.add(key)
            return
        wait = BACKOFF_S[min(max(crashes - 1, 0), len(BACKOFF_S) - 1)]
        post.child, post.agent, post.crashes, post.not_before = None, None, crashes, time.monotonic() + wait

    def _mourn(self) -> None:
        """Say that nothing runs any more of the agents that have ended, once it is so; what cannot be ended is not waited for,
        and the leases decide."""
        if not self._orphans.look(agents=self._pids()):
            operations.reaped(agents=list(self._mourned))
            self._mourned.clear()
        latest = time.monotonic() - self._orphans.patience_s
        self._mourned = {agent: ended for agent, ended in self._mourned.items() if ended > latest}

    def _clean_up(self, surviving_processes: list[tuple[int, float]]) -> None:
        """End what an earlier supervisor of this node left, politely, and say that it is lost."""
        left = operations.left_behind(node=self.node)
        noted = [(agent.pid, agent.start_time) for agent in left if agent.pid and agent.start_time is not None]
        noted += surviving_processes
        processes.end(noted, within_s=settings.FLEET_DRAIN_S + settings.FLEET_GRACE_S)
        reaped = reaper.reap_abandoned(
            fleet=settings.FLEET_HOME.id, agents=operations.here(), grace_s=settings.FLEET_GRACE_S
        )
        ended = operations.end(
            agents=[agent.id for agent in left], state=Agent.State.LOST, reason="Its node was restarted.", reaped=reaped
        )
        if ended:  # their leases may have told before us
            log.warning("an earlier supervisor of this node left %d agents, which are lost", len(ended))


def _listener() -> psycopg.Connection[Any]:
    """A connection that hears orders; apart from Django's, so that a notification wakes the loop at once."""
    given = connection.get_connection_params()
    for ours in ("cursor_factory", "context", "prepare_threshold", "server_side_binding", "application_name"):
        given.pop(ours, None)
    made: psycopg.Connection[Any] = postgres.connect(**given, autocommit=True, application_name="fleet node")
    made.execute(f"LISTEN {operations.CHANNEL}")
    return made
