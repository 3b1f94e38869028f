"""The posts of a node: the agents that it must have, and the orders for them, as stored in Postgres.

A node keeps one agent at each post: as many of each type as the type requires, plus those that were ordered. `Posts`
reads the rows; the supervisor starts the processes and notices when they exit.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from django.conf import settings

from agents import operations
from agents.models import Agent, AgentType, Node
from agents.node import forking

log = logging.getLogger("fleet.node")

Key: TypeAlias = tuple[str, int]  # the name of the type, and the ordinal


@dataclass(slots=True, eq=False)
class Post:
    """A place for one agent of a type, and the process that fills it now. Times are on the monotonic clock."""

    type: AgentType
    ordinal: int
    concurrency: int
    permanent: bool  # required by its type's settings, not by an order
    has_started: bool = True  # False: ordered, and no agent has come up yet; a failed start is not retried
    agent: Agent | None = None
    child: forking.AgentProcess | None = None
    started_at: float = 0.0
    crashes: int = 0
    not_before: float = 0.0
    last_order: str = ""  # the last order that was passed on to the process
    interrupt_at: float | None = None  # when to make the agent stop its sorties
    kill_at: float | None = None

    @property
    def key(self) -> Key:
        return self.type.name, self.ordinal

    @property
    def name(self) -> str:
        return f"{self.type.name}-{self.ordinal}"

    def apply_order(self, order: Agent.Order) -> None:
        """Pass a new order on to the process."""
        if self.last_order == order or self.agent is None or self.child is None:
            return
        log.info("%s is ordered: %s", self.agent, order.value)
        self.last_order = order
        operations.mark_draining(agent=self.agent.id)
        if order != Agent.Order.NOW:
            self.child.send(signal.SIGTERM)
        if order != Agent.Order.DRAIN:
            self.interrupt_at = time.monotonic() + (0 if order == Agent.Order.NOW else settings.FLEET_DRAIN_S)
        self.enforce_deadlines(time.monotonic())

    def end_process(self) -> None:
        """End a process whose row has ended: the agent was given up as lost, and must make room for a successor."""
        if self.interrupt_at is None and self.kill_at is None:
            self.interrupt_at = time.monotonic()

    def enforce_deadlines(self, now: float) -> None:
        """Make an agent whose time is up stop its sorties, and kill it if it does not exit."""
        if self.child is None:
            return
        if self.interrupt_at is not None and now >= self.interrupt_at:
            self.child.send(signal.SIGQUIT)
            self.interrupt_at, self.kill_at = None, now + 2 * settings.FLEET_GRACE_S + 1
        elif self.kill_at is not None and now > self.kill_at:
            log.warning("%s did not end in time; killing it", self.agent)
            self.child.send(signal.SIGKILL)
            self.kill_at = now + 1


class Posts:
    """All posts of one node. Iterate over it to get the current ones; they may be removed meanwhile."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._posts: dict[Key, Post] = {}
        self._released: set[Key] = set()  # permanent posts whose agent was ended by an order or given up
        self._cordoned = True  # until the first refresh

    def __iter__(self) -> Iterator[Post]:
        return iter(list(self._posts.values()))

    def refresh(self) -> None:
        """Update the posts to match the types, and carry out new orders."""
        self._apply_types()
        self._apply_orders()

    def release(self, post: Post) -> None:
        """Remove a post. A permanent post stays empty until the node is uncordoned or the type changes."""
        self._posts.pop(post.key, None)
        if post.permanent:
            self._released.add(post.key)

    @property
    def pids(self) -> set[int]:
        """The pids of the agents whose exit the node has not noticed yet."""
        return {post.child.pid for post in self if post.child and post.child.returncode is None}

    @property
    def pids_by_agent(self) -> dict[UUID, int]:
        """The pid of each agent that has a process."""
        return {post.agent.id: post.child.pid for post in self if post.agent and post.child}

    def _apply_types(self) -> None:
        """Add the posts that the types require here, and drain those that they no longer require.

        A cordoned node gets no new posts. When it is uncordoned, posts that were released may come back.
        """
        was_cordoned, self._cordoned = self._cordoned, self._is_cordoned()
        if self._cordoned:
            self._released.clear()
        elif was_cordoned:
            for agent in operations.interrupted_agents(node=self._node):
                post = Post(agent.type, agent.ordinal, agent.concurrency, permanent=False)
                self._posts.setdefault((agent.type_id, agent.ordinal), post)
        types = {type.name: type for type in AgentType.objects.filter(enabled=True, external=False)}
        types = {name: type for name, type in types.items() if self._node.serves(name)}
        desired = {(type.name, ordinal) for type in types.values() for ordinal in range(1, type.agents + 1)}
        self._released &= desired
        for name, ordinal in sorted(desired - self._posts.keys() - self._released):
            if len(self._posts) < self._node.max_agents and not self._cordoned:
                self._posts[name, ordinal] = Post(types[name], ordinal, types[name].concurrency, permanent=True)
        for key, post in list(self._posts.items()):
            if (type := types.get(post.type.name)) is None:
                self._drain(key, post, "Its type is disabled, or this node does not serve it.")
            elif post.permanent and key not in desired:
                self._drain(key, post, "Its type requires fewer agents here.")
            else:
                post.type = type
                if post.permanent:
                    post.concurrency = type.concurrency  # for its successors

    def _is_cordoned(self) -> bool:
        return Node.objects.filter(id=self._node.id, cordoned=True).exists()

    def _drain(self, key: Key, post: Post, why: str) -> None:
        post.permanent = False
        if post.agent is None:
            del self._posts[key]
        elif not post.last_order:
            operations.order(agents=[post.agent.id], order=Agent.Order.DRAIN, reason=why)

    def _apply_orders(self) -> None:
        live = Agent.objects.select_related("type").filter(node=self._node, state__in=Agent.LIVE)
        at_posts = {post.agent.id for post in self if post.agent is not None}
        for agent in live.filter(pid=None, state=Agent.State.SPAWNING).exclude(id__in=at_posts).order_by("id"):
            self._add_ordered(agent)
        orders = dict(live.values_list("id", "order"))
        for key, post in list(self._posts.items()):
            if post.agent is None:
                continue
            if post.child is None:
                if (
                    post.agent.id not in orders or orders[post.agent.id]
                ):  # ended or ordered to end before it was started
                    operations.end(
                        agents=[post.agent.id],
                        state=Agent.State.TERMINATED,
                        reason="It was ended before it was started.",
                        reaped=True,
                    )
                    del self._posts[key]
            elif post.agent.id not in orders:
                post.end_process()
            elif order := orders[post.agent.id]:
                post.apply_order(Agent.Order(order))

    def _add_ordered(self, agent: Agent) -> None:
        """Add a post for an agent that was ordered.

        If a process with its ordinal, whose row has ended, is still ending, the agent waits. A post with its ordinal
        that waits after a crash, and so has no agent, gets the next free ordinal.
        """
        agent.node = self._node
        key = (agent.type_id, agent.ordinal)
        occupant = self._posts.get(key)
        if occupant is not None and occupant.agent is not None:
            return
        post = Post(agent.type, agent.ordinal, agent.concurrency, permanent=False, has_started=False, agent=agent)
        self._posts[key] = post
        if occupant is not None:
            post.permanent, occupant.permanent = occupant.permanent, False
            occupant.ordinal = next(
                ordinal
                for ordinal in range(1, len(self._posts) + 2)
                if (occupant.type.name, ordinal) not in self._posts
            )
            self._posts[occupant.key] = occupant
