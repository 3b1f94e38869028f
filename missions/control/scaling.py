"""The autoscaler: starts agents while work waits and all slots are busy, and drains them afterwards. Off by default.

`decide` is a pure function. **Up**: if all slots of the type are in use (or it has none) and a sortie has waited for
FLEET_SCALE_UP_S, it starts as many agents as the queue could fill, but at most doubles their number, within the type's
limit and the capacity of the nodes. **Down**: if nothing is queued, it drains agents beyond those that nodes keep,
if they have had no work for FLEET_SCALE_DOWN_S. A drain interrupts no work.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, F, Min
from django.db.models.functions import Coalesce, Extract, Now
from django.utils import timezone

from agents import operations as agents
from agents.models import Agent, Node
from fleet import errors, humanise, ids
from fleet.postgres import locks, statements
from fleet.postgres.locks import Lock
from missions.control import admission
from missions.models import Sortie

log = logging.getLogger("fleet.scaling")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 600.0  # after agents that died before they ran anything
STEADY_S = 60.0  # an agent that has lived this long counts as working, even without sorties
LOOK_BACK = timedelta(hours=3)  # only the last hour counts, but ids contain the time of hosts' clocks, which may be off


@dataclass(frozen=True, slots=True, kw_only=True)
class Deaths:
    """Agents of a type that died before they ran anything, since the last one that worked."""

    count: int
    last_s_ago: float
    last: str  # in words: the id of the last one, and why it ended

    @property
    def pause_s(self) -> float:
        """The pause between the last death and the next start."""
        return min(FIRST_PAUSE_S * 2.0 ** min(self.count - 1, 10), LONGEST_PAUSE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingFacts:
    """One agent type as the autoscaler sees it. The first ten fields are the columns of sql/scaling_facts.sql."""

    type: str
    on: bool  # whether the type is autoscaled
    max_agents: int  # limit in the whole fleet; 0: only the nodes limit it
    concurrency: int
    live: int
    starting: int
    slots: int
    running: int
    queued: int
    oldest_s: float
    idle: tuple[UUID, ...] = ()  # agents that may be drained
    deaths: Deaths | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do about one type, and why."""

    type: str
    on: bool
    spawn: int = 0
    drain: tuple[UUID, ...] = ()
    why: str
    failing: bool = False  # work waits, and the agents started for it died


def decide(*, facts: ScalingFacts, room: int, up_after_s: float) -> Decision:
    """The decision for one type, given how many more agents the nodes that are up may have."""

    def decision(why: str, *, spawn: int = 0, drain: tuple[UUID, ...] = ()) -> Decision:
        failing = bool(facts.queued and facts.deaths)
        return Decision(type=facts.type, on=facts.on, spawn=spawn, drain=drain, why=why, failing=failing)

    if facts.queued:
        situation = f"{facts.queued} queued, the oldest for {humanise.duration(facts.oldest_s)}"
        if facts.deaths:
            count = facts.deaths.count
            died = f"{count} agents in a row died before they" if count > 1 else "an agent died before it"
            situation += f"; {died} ran anything ({facts.deaths.last})"
        if facts.starting:
            return decision(f"{situation}; {facts.starting} agents are starting")
        if facts.running < facts.slots:
            return decision(f"{situation}; {facts.slots - facts.running} of {facts.slots} slots are free")
        if facts.oldest_s < up_after_s:
            return decision(f"{situation}; agents are added after {humanise.duration(up_after_s)}")
        count = min(math.ceil(facts.queued / max(facts.concurrency, 1)), max(facts.live, 1))
        room = min(room, facts.max_agents - facts.live if facts.max_agents else room)
        if facts.deaths:
            if facts.deaths.last_s_ago < facts.deaths.pause_s:
                left_s = facts.deaths.pause_s - facts.deaths.last_s_ago
                return decision(f"{situation}; the next start is in {humanise.duration(left_s)}")
            count = 1
        if room <= 0:
            obstacle = (
                "its limit is reached"
                if facts.max_agents and facts.live >= facts.max_agents
                else "no node has room for another agent, or Postgres has no free connections"
            )
            return decision(f"{situation}, all {facts.slots} slots in use; {obstacle} ({facts.live} agents)")
        return decision(f"{situation}, all {facts.slots} slots in use", spawn=min(count, room))
    if facts.idle:
        return decision(f"nothing is queued, and {len(facts.idle)} agents have had no work", drain=facts.idle)
    return decision("nothing to do")


def decisions() -> list[Decision]:
    """The decision for each type, including types that are not autoscaled."""
    types = _facts()
    nodes = Node.objects.filter(
        up=True, cordoned=False, heartbeat_at__gt=Now() - timedelta(seconds=settings.FLEET_LEASE_S)
    )
    live_agents = Counter(Agent.objects.filter(node__in=nodes, state__in=Agent.LIVE).values_list("node", flat=True))
    room, spawned = agents.capacity().room, 0
    idle, deaths = _idle(), _deaths()
    startable = _startable([facts.type for facts in types if facts.on and not facts.live])
    decisions = []
    for type_facts in types:
        name = type_facts.type
        startable_count, startable_oldest_s = startable.get(name, (0, 0.0))
        facts = replace(
            type_facts,
            queued=type_facts.queued + startable_count,
            oldest_s=max(type_facts.oldest_s, startable_oldest_s),
            idle=idle.get(name, ()),
            deaths=deaths.get(name),
        )
        free = sum(node.max_agents - live_agents[node.id] for node in nodes if node.serves(name))
        decision = decide(facts=facts, room=min(free, room) - spawned, up_after_s=settings.FLEET_SCALE_UP_S)
        spawned += decision.spawn if decision.on else 0
        decisions.append(decision)
    return decisions


def _facts() -> list[ScalingFacts]:
    """One agent type each, without its startable sorties, idle agents and deaths."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", "scaling_facts"))
        columns = [column.name for column in cursor.description]
        return [ScalingFacts(**dict(zip(columns, row, strict=True))) for row in cursor.fetchall()]


def _startable(types: list[str]) -> dict[str, tuple[int, float]]:
    """The sorties of agentless types that would be admitted if an agent served them: their number and oldest wait.

    They are ready and under a limit with room, but are queued only once an agent serves their type.
    """
    if not types:
        return {}
    sorties = Sortie.objects.filter(id__in=admission.startable(types)).order_by().values_list("agent_type")
    waited = Extract(Now() - Min("ready_at"), "epoch")
    return {
        name: (count, float(oldest_s)) for name, count, oldest_s in sorties.annotate(number=Count("id"), waited=waited)
    }


def scale() -> list[Decision]:
    """Carry out the decisions for the types that are autoscaled; returns those that changed something."""
    with transaction.atomic():
        if not locks.try_lock(Lock.SCALING):
            return []
        due = [decision for decision in decisions() if decision.on and (decision.spawn or decision.drain)]
        for decision in due:
            _carry_out(decision)
    return due


def _carry_out(decision: Decision) -> None:
    log.info("%s: %+d agents: %s", decision.type, decision.spawn - len(decision.drain), decision.why)
    if decision.spawn:
        try:
            with transaction.atomic():
                agents.spawn(type=decision.type, count=decision.spawn)
        except errors.FleetError as error:
            log.warning("%s: %s", decision.type, error)
    if decision.drain:
        reason = "The autoscaler drained it: it had no work."
        agents.order(agents=list(decision.drain), order=Agent.Order.DRAIN, reason=reason)


def _deaths() -> dict[str, Deaths]:
    since = UUID(int=int((timezone.now() - LOOK_BACK).timestamp() * 1000) << 80)  # the first 48 bits of a UUIDv7
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", "deaths"), {"since": since, "steady": STEADY_S})
        return {
            type: Deaths(count=count, last_s_ago=ago_s, last=f"the last: {ids.encode(ids.AGENT, agent)}, {reason}")
            for type, count, ago_s, agent, reason in cursor.fetchall()
        }


def _idle() -> dict[str, tuple[UUID, ...]]:
    """Agents beyond those that nodes keep that have had no work for a while, by type, the newest first."""
    quiet_since = Now() - timedelta(seconds=settings.FLEET_SCALE_DOWN_S)
    agents_without_work = (
        Agent.objects.filter(
            state=Agent.State.IDLE, order="", running=0, node__isnull=False, ordinal__gt=F("type__agents")
        )
        .annotate(last=Coalesce("claimed_at", "spawned_at"))
        .filter(last__lt=quiet_since)
        .order_by("type", "-id")
    )
    by_type: dict[str, tuple[UUID, ...]] = {}
    for agent in agents_without_work:
        by_type[agent.type_id] = (*by_type.get(agent.type_id, ()), agent.id)
    return by_type
