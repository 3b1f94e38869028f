"""More agents where work waits and every slot is taken, and fewer again: off, unless the type's row says otherwise.

`decide` is pure. Up: the type's slots are all in use (or it has none) and something has waited for FLEET_SCALE_UP_S; then
as many agents as the queue could fill, but at most as many again as there are, within the type's limit and the places of
the nodes. Down: nothing is queued; agents beyond those that nodes keep, which have flown nothing for FLEET_SCALE_DOWN_S,
are drained, which takes no work from anybody.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
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

FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 600.0  # after agents that died before they had flown anything
STEADY_S = 60.0  # an agent that has lived so long gets on, work or not
LOOKED_BACK = timedelta(hours=3)  # deaths of the last hour count; hosts' clocks, which ids are made by, may be off


@dataclass(frozen=True, slots=True, kw_only=True)
class Deaths:
    """Agents of a type that ended badly before they had flown anything, since the last one that got on."""

    count: int
    last_s_ago: float
    last: str  # the id of the last one, and why it ended

    @property
    def pause_s(self) -> float:
        """How long after the last of them the next one is tried."""
        return min(FIRST_PAUSE_S * 2.0 ** min(self.count - 1, 10), LONGEST_PAUSE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One agent type as the autoscaler sees it."""

    type: str
    on: bool
    kept: int  # by each node, work or not
    most: int  # in the whole fleet; 0: as many as there are places
    concurrency: int
    live: int
    starting: int
    slots: int
    flying: int
    queued: int
    oldest_s: float
    idle: tuple[UUID, ...] = ()  # agents that may go
    deaths: Deaths | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do about one type, and why."""

    type: str
    on: bool
    spawn: int = 0
    drain: tuple[UUID, ...] = ()
    why: str
    failing: bool = False  # work waits, and the agents that were started for it died


def decide(*, facts: Facts, places: int, up_after_s: float) -> Decision:
    """What this type should get, with so many places free on the nodes that are up."""

    def decision(why: str, *, spawn: int = 0, drain: tuple[UUID, ...] = ()) -> Decision:
        failing = bool(facts.queued and facts.deaths)
        return Decision(type=facts.type, on=facts.on, spawn=spawn, drain=drain, why=why, failing=failing)

    if facts.queued:
        waits = f"{facts.queued} queued, the oldest for {humanise.duration(facts.oldest_s)}"
        if facts.deaths:
            many = facts.deaths.count > 1
            died = f"{facts.deaths.count} agents in a row died before they" if many else "an agent died before it"
            waits += f"; {died} had flown anything ({facts.deaths.last})"
        if facts.starting:
            return decision(f"{waits}; {facts.starting} agents are starting")
        if facts.flying < facts.slots:
            return decision(f"{waits}; {facts.slots - facts.flying} of {facts.slots} slots are free")
        if facts.oldest_s < up_after_s:
            return decision(f"{waits}; it waits for {humanise.duration(up_after_s)} first")
        wanted = min(math.ceil(facts.queued / max(facts.concurrency, 1)), max(facts.live, 1))
        room = min(places, facts.most - facts.live if facts.most else places)
        if facts.deaths:
            if facts.deaths.last_s_ago < facts.deaths.pause_s:
                left_s = facts.deaths.pause_s - facts.deaths.last_s_ago
                return decision(f"{waits}; the next one is tried in {humanise.duration(left_s)}")
            wanted = 1
        if room <= 0:
            limit = (
                "its limit is reached"
                if facts.most and facts.live >= facts.most
                else "no node has a place free, or Postgres no connections"
            )
            return decision(f"{waits}, all {facts.slots} slots in use; {limit} ({facts.live} agents)")
        return decision(f"{waits}, all {facts.slots} slots in use", spawn=min(wanted, room))
    if facts.idle:
        return decision(f"nothing is queued, and {len(facts.idle)} agents have had no work", drain=facts.idle)
    return decision("nothing to do")


def look() -> list[Decision]:
    """What would be done now, for each type, also for those that are not autoscaled."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", "scale"))
        rows = cursor.fetchall()
    nodes = Node.objects.filter(
        up=True, cordoned=False, heartbeat_at__gt=Now() - timedelta(seconds=settings.FLEET_LEASE_S)
    )
    places = sum(node.places for node in nodes) - Agent.objects.filter(node__in=nodes, state__in=Agent.LIVE).count()
    places = min(places, agents.capacity().room)
    idle, deaths = _idle(), _deaths()
    startable = _startable([name for name, on, *_, live, _, _, _, _, _ in rows if on and not live])
    decisions = []
    for name, on, kept, most, concurrency, live, starting, slots, flying, queued, oldest_s in rows:
        more, more_oldest_s = startable.get(name, (0, 0.0))
        facts = Facts(
            type=name,
            on=on,
            kept=kept,
            most=most,
            concurrency=concurrency,
            live=live,
            starting=starting,
            slots=slots,
            flying=flying,
            queued=queued + more,
            oldest_s=max(oldest_s, more_oldest_s),
            idle=idle.get(name, ()),
            deaths=deaths.get(name),
        )
        decided = decide(facts=facts, places=places, up_after_s=settings.FLEET_SCALE_UP_S)
        places -= decided.spawn if decided.on else 0
        decisions.append(decided)
    return decisions


def _startable(types: list[str]) -> dict[str, tuple[int, float]]:
    """How many sorties of these types, which have no agent, wait under a limit that has room for them, and how long the
    oldest has waited: they are admitted, and so queued, once an agent serves them."""
    if not types:
        return {}
    found = Sortie.objects.filter(id__in=admission.startable(types)).order_by().values_list("agent_type")
    waited = Extract(Now() - Min("ready_at"), "epoch")
    return {
        name: (count, float(oldest_s)) for name, count, oldest_s in found.annotate(number=Count("id"), waited=waited)
    }


def scale() -> list[Decision]:
    """Do it, for the types whose row says so; returns what was done."""
    with transaction.atomic():
        if not locks.try_lock(Lock.SCALING):
            return []
        done = [decided for decided in look() if decided.on and (decided.spawn or decided.drain)]
        for decided in done:
            _do(decided)
    return done


def _do(decided: Decision) -> None:
    log.info("%s: %+d agents: %s", decided.type, decided.spawn - len(decided.drain), decided.why)
    if decided.spawn:
        try:
            with transaction.atomic():
                agents.spawn(type=decided.type, count=decided.spawn)
        except errors.FleetError as refused:
            log.warning("%s: %s", decided.type, refused)
    if decided.drain:
        agents.order(agents=list(decided.drain), what=Agent.Order.DRAIN, reason="Autoscaling: it has had no work.")


def _deaths() -> dict[str, Deaths]:
    since = UUID(int=int((timezone.now() - LOOKED_BACK).timestamp() * 1000) << 80)  # of a UUIDv7 the first 48 bits
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", "deaths"), {"since": since, "steady": STEADY_S})
        return {
            type: Deaths(count=count, last_s_ago=ago_s, last=f"the last: {ids.encode(ids.AGENT, agent)}, {reason}")
            for type, count, ago_s, agent, reason in cursor.fetchall()
        }


def _idle() -> dict[str, tuple[UUID, ...]]:
    """Agents beyond those that nodes keep, which have flown nothing for a while, by type; the newest first."""
    quiet_since = Now() - timedelta(seconds=settings.FLEET_SCALE_DOWN_S)
    found = (
        Agent.objects.filter(
            state=Agent.State.IDLE, order="", flying=0, node__isnull=False, place__gt=F("type__agents")
        )
        .annotate(last=Coalesce("claimed_at", "spawned_at"))
        .filter(last__lt=quiet_since)
        .order_by("type", "-id")
    )
    by_type: dict[str, tuple[UUID, ...]] = {}
    for agent in found:
        by_type[agent.type_id] = (*by_type.get(agent.type_id, ()), agent.id)
    return by_type
