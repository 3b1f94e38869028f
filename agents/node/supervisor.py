"""The supervisor of one host's agents: it starts them, restarts those that crash, and ends them when it ends.

It is the direct parent of its agents (agents/node/forking.py), so it notices at once when one dies. It ends the agent's
row as lost, and reports when the agent's workloads have ended too (agents/node/orphans.py). From then on the control
loop gives its sorties to other agents without waiting for the lease.

Its orders are rows (agents/node/posts.py); NOTIFY only wakes it to read them (agents/node/notifications.py). The
process has one thread, because it forks.

While Postgres is unavailable it starts no agents, and running agents continue or stop by their own clocks. It records
what happened as soon as Postgres answers.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from uuid import UUID

from django.conf import settings
from django.db import Error, connection

from agents import operations
from agents.confinement import cgroups
from agents.drivers import reaper
from agents.models import Agent, Node
from agents.node import exits, forking, log_shipping
from agents.node.notifications import Notifications
from agents.node.orphans import Orphans
from agents.node.posts import Post, Posts
from agents.node.recorder import NodeRecorder
from fleet.host import processes

log = logging.getLogger("fleet.node")

POLL_S = 0.2  # between checks for dead agents
ORPHANS_POLL_S = 0.05  # between checks for processes that dead agents left
REFRESH_S = 1.0  # between reads of the rows if no notification arrives
BACKOFF_S = (0, 1, 2, 4, 8, 15)


class Replaced(Exception):
    """Another supervisor has taken over the node's name while this one sent no heartbeat."""


class NodeSupervisor:
    """Keeps an agent at each post of the node, and carries out orders."""

    def __init__(self, *, name: str) -> None:
        forking.warm_up()
        cgroups.activate()
        pid = os.getpid()
        surviving_processes = operations.surviving_processes(name=name)
        self.node: Node = operations.join(name=name, pid=pid, start_time=processes.start_time_of(pid) or 0.0)
        self._orphans = Orphans()
        self._clean_up(surviving_processes)
        self._unreaped: dict[UUID, float] = {}  # agents whose workloads may still run, and when they ended
        self._posts = Posts(self.node)
        self._recorder = NodeRecorder()
        self._recorder.resume(self.node)
        self._notifications = Notifications(self.node.id)
        self._beat_at = self._refreshed_at = -math.inf

    def run(self, *, ending: Event, alive: Callable[[], None]) -> None:
        """Run until `ending` is set, calling `alive` in each round; then drain the agents and wait for them."""
        while not ending.is_set():
            try:
                notified = self._notifications.wait(ORPHANS_POLL_S if self._unreaped else POLL_S)
                self.step(notified=notified)
            except Error as error:
                log.warning("Postgres does not answer: %s", str(error).strip())
                connection.close()
            except Replaced:
                log.error("another node called %s has taken over; this one stops, with its agents", self.node.name)
                break
            alive()
        self.stop()

    def step(self, *, notified: bool = False) -> None:
        """Run one round of supervision."""
        now = time.monotonic()
        for post in self._posts:  # first, everything that needs no database
            post.enforce_deadlines(now)
        self._orphans.check(agent_pids=self._posts.pids)
        for post in self._posts:
            if post.child is not None and post.child.poll() is not None:
                self._handle_exit(post)
                self._refreshed_at = -math.inf  # an ordered agent may wait for its ordinal
        if self._unreaped:
            self._report_reaped()
        if notified or now - self._refreshed_at > REFRESH_S:
            self._refreshed_at = now
            self._posts.refresh()
        for post in self._posts:
            if post.child is None and time.monotonic() >= post.not_before:
                self._start(post)
        if now - self._beat_at > settings.FLEET_HEARTBEAT_S:
            self._beat_at = now
            if not operations.record_node_heartbeat(node=self.node):
                raise Replaced
        self._recorder.step(self._posts.pids_by_agent)

    def stop(self) -> None:
        """Terminate all agents, wait for them, and kill those that do not end in time."""
        children = [post.child for post in self._posts if post.child is not None]
        for child in children:
            child.send(signal.SIGTERM)
        deadline = time.monotonic() + settings.FLEET_DRAIN_S + 2 * settings.FLEET_GRACE_S
        agents = [post.agent.id for post in self._posts if post.agent is not None]
        why = "Its node was stopped."
        recorded = _record(lambda: operations.order(agents=agents, order=Agent.Order.TERMINATE, reason=why))
        while (running := [child for child in children if child.poll() is None]) and time.monotonic() < deadline:
            time.sleep(0.02)
        for child in running:
            log.warning("pid %d did not end; killing it", child.pid)
            child.send(signal.SIGKILL)
            os.waitpid(child.pid, 0)
        reaped = self._orphans.await_end(agent_pids=())
        if not (recorded or _record(connection.ensure_connection)):
            return  # each of the following would wait for Postgres again
        for agent in agents:
            self._recorder.finish(agent=agent)
        _record(lambda: operations.end(agents=agents, state=Agent.State.TERMINATED, reason=why, reaped=reaped))
        if reaped and self._unreaped:
            _record(lambda: operations.mark_reaped(agents=list(self._unreaped)))
        _record(lambda: operations.leave(node=self.node))

    def _start(self, post: Post) -> None:
        if post.agent is None:
            capacity = operations.capacity()
            if capacity.room < 1:
                post.not_before = time.monotonic() + BACKOFF_S[-1]
                log.warning("%s is not started: %s", post.name, capacity)
                return
            post.agent = operations.create_agent(
                type=post.type, node=self.node, ordinal=post.ordinal, concurrency=post.concurrency, crashes=post.crashes
            )
        output = log_shipping.path(type=post.type.name, ordinal=post.ordinal, node=self.node.name)
        self._recorder.begin(agent=post.agent.id, path=output)
        try:
            post.child = self._fork(post, post.agent, output)
        except OSError as error:  # no memory, no pid
            post.not_before = time.monotonic() + BACKOFF_S[-1]
            log.error("could not fork %s, trying again in %d s: %s", post.name, BACKOFF_S[-1], error)
            return
        post.started_at, post.last_order, post.interrupt_at, post.kill_at = time.monotonic(), "", None, None
        pid = post.child.pid
        Agent.objects.filter(id=post.agent.id, pid=None).update(pid=pid, start_time=processes.start_time_of(pid))
        log.info("started %s (%s), pid %d", post.agent, post.name, pid)

    def _fork(self, post: Post, agent: Agent, output: Path) -> forking.AgentProcess:
        return forking.fork_agent(
            argv=[
                "worker", "--queues", post.type.queue, "--pool", "threads", "--concurrency", str(post.concurrency),
                "--hostname", f"{post.name}@{self.node.name}",
                "--without-mingle", "--without-gossip", "--loglevel", "INFO",
            ],
            env={
                "FLEET_AGENT": str(agent.id),
                "FLEET_AGENT_TYPE": post.type.name,
                "FLEET_NODE": self.node.name,
                "FLEET_HOME": str(settings.FLEET_HOME.root),
            },
            log=output,
        )  # fmt: skip

    def _handle_exit(self, post: Post) -> None:
        """End the row of an agent whose process has ended, and plan its successor.

        If Postgres fails in the middle, the next round calls this again, and it changes nothing twice.
        """
        assert post.child is not None
        assert post.agent is not None
        agent = post.agent
        self._recorder.finish(agent=agent.id)
        row_state = Agent.objects.filter(id=agent.id).values_list("state", flat=True).first()
        ended = exits.judge(post, code=post.child.returncode or 0, row_state=row_state)
        post.has_started |= ended.came_up
        operations.end(agents=[agent.id], state=ended.state, reason=ended.reason)
        self._unreaped.setdefault(agent.id, time.monotonic())
        log.log(
            logging.INFO if ended.ordered else logging.WARNING,
            "%s (%s) ended with %s%s", agent, post.name, ended.cause, "; given up" if ended.given_up else "",
        )  # fmt: skip
        if ended.given_up or (ended.ordered and post.last_order != Agent.Order.RESTART):
            self._posts.release(post)
            return
        wait_s = BACKOFF_S[min(max(ended.crashes - 1, 0), len(BACKOFF_S) - 1)]
        post.child, post.agent, post.crashes, post.not_before = None, None, ended.crashes, time.monotonic() + wait_s

    def _report_reaped(self) -> None:
        """Report that the workloads of the ended agents have ended too, once that is so.

        It does not wait for processes that cannot be killed; their agents' sorties are freed when the leases expire.
        """
        if not self._orphans.check(agent_pids=self._posts.pids):
            operations.mark_reaped(agents=list(self._unreaped))
            self._unreaped.clear()
            cgroups.sweep(fleet=settings.FLEET_HOME.id)
        oldest = time.monotonic() - self._orphans.timeout_s
        self._unreaped = {agent: ended_at for agent, ended_at in self._unreaped.items() if ended_at > oldest}

    def _clean_up(self, surviving_processes: list[tuple[int, float]]) -> None:
        """End the processes that an earlier supervisor of this node left, and mark their agents as lost."""
        agents = operations.agents_left_behind(node=self.node)
        recorded = [(agent.pid, agent.start_time) for agent in agents if agent.pid and agent.start_time is not None]
        processes.end(recorded + surviving_processes, within_s=settings.FLEET_DRAIN_S + settings.FLEET_GRACE_S)
        reaped = reaper.reap_abandoned(
            fleet=settings.FLEET_HOME.id, agent_pids=operations.pids_on_this_host(), grace_s=settings.FLEET_GRACE_S
        )
        ended = operations.end(
            agents=[agent.id for agent in agents],
            state=Agent.State.LOST,
            reason="Its node was restarted.",
            reaped=reaped,
        )
        if ended:  # fewer than `agents` if their leases have expired already
            log.warning("an earlier supervisor of this node left %d agents, which are lost", len(ended))


def _record(write: Callable[[], object]) -> bool:
    """Write to Postgres while the node stops. Returns False if Postgres did not answer."""
    try:
        write()
    except Error as error:
        log.warning("could not record that this node was stopped: %s", str(error).strip())
        connection.close()
        return False
    return True
