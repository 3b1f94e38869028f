"""What is read of agents and nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Max, Min, Q, QuerySet
from django.db.models.functions import Now

from agents.models import Agent, LogPiece, Sample
from fleet import errors, ids, invocation
from fleet.postgres import statements

HOUR_S, STEP_S = 3_600, 120  # what a sparkline shows, and in which steps
STEPS_S = (10, 30, 60, 300, 600, 1_800, 3_600, 21_600, 86_400)  # in which a history is shown


def find(reference: str) -> Agent:
    """The agent of an id (`agt_…`) or, among those alive, of a name (`backend-1@host`, or `backend-1` where there is one).

    NotFound where there is none, Conflict where several answer to it.
    """
    agents = Agent.objects.select_related("type", "node")
    if reference.startswith(f"{ids.AGENT}_"):
        found = agents.filter(id=ids.decode(ids.AGENT, reference)).first()
        if found is None:
            raise errors.NotFound(
                f"There is no agent {reference}.", hint=f"See: {invocation.command('fleet_agents', 'list', '--all')}"
            )
        return found
    named = [agent for agent in live(agents) if reference in {agent.name, agent.name.partition("@")[0]}]
    if not named:
        raise errors.NotFound(
            f"No live agent is called {reference!r}.", hint=f"See: {invocation.command('fleet_agents', 'list')}"
        )
    if len(named) > 1:
        raise errors.Conflict(
            f"{len(named)} agents are called {reference!r}.", hint="Say which: " + ", ".join(a.name for a in named)
        )
    return named[0]


def live(agents: QuerySet[Agent] | None = None) -> QuerySet[Agent]:
    """Those that have not ended, by type, node and place."""
    found = Agent.objects.select_related("type", "node") if agents is None else agents
    return found.filter(state__in=Agent.LIVE).order_by("type", "node__name", "place", "id")


def served() -> frozenset[str]:
    """The types that have an agent which takes work, or will in a moment: one that was heard of within its lease, or is
    starting, and that nobody has told to end."""
    fresh = Now() - timedelta(seconds=settings.FLEET_LEASE_S)
    heard = Q(state__in=(Agent.State.IDLE, Agent.State.BUSY), heartbeat_at__gt=fresh)
    taking = Agent.objects.filter(heard | Q(state=Agent.State.SPAWNING), order__in=("", Agent.Order.RESTART))
    return frozenset(taking.order_by().values_list("type", flat=True).distinct())


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an agent and the processes that work for it use: at the last look, and before."""

    at: datetime
    cpu: float  # processors in use
    memory_bytes: int
    peak_bytes: int  # the highest of its samples, those that are means included
    processes: int
    hour: list[float | None]  # processors in use in each two minutes of the last hour, the oldest first; None: unknown


def usage(agents: Sequence[Agent]) -> dict[UUID, Usage]:
    """Of each agent that was looked at; in two queries."""
    chosen = {"agents": [agent.id for agent in agents]}
    hours: dict[UUID, list[float | None]] = {agent.id: [None] * (HOUR_S // STEP_S) for agent in agents}
    with connection.cursor() as cursor:
        cursor.execute(statements.read("agents", "usage_steps"), {**chosen, "span_s": HOUR_S, "step_s": STEP_S})
        for agent, steps_ago, cpu in cursor.fetchall():
            hours[agent][-1 - steps_ago] = cpu
        cursor.execute(statements.read("agents", "usage"), chosen)
        return {
            agent: Usage(at=at, cpu=cpu, memory_bytes=memory, peak_bytes=peak, processes=processes, hour=hours[agent])
            for agent, at, cpu, memory, processes, peak in cursor.fetchall()
        }


def samples(agent: Agent, *, most: int | None = None) -> Iterator[dict[str, Any]]:
    """Its history, the oldest first: `{at, step_s, cpu, memory_bytes, processes}`. With `most`, in steps so long that
    there are not more of them (a little more at a border): the mean of `cpu`, the highest of the others."""
    kept = Sample.objects.filter(agent=agent)
    if most is None:
        every = kept.order_by("at").values("at", "step_s", "cpu", "memory_bytes", "processes")
        yield from (dict(one) for one in every.iterator())
        return
    span = kept.aggregate(first=Min("at"), last=Max("at"))
    if span["first"] is None:
        return
    span_s = (span["last"] - span["first"]).total_seconds()
    step_s = next((step for step in STEPS_S if span_s / step <= most), STEPS_S[-1])
    with connection.cursor() as cursor:
        cursor.execute(statements.read("agents", "history"), {"agent": agent.id, "step_s": step_s})
        for at, cpu, memory, processes in cursor.fetchall():
            yield {"at": at, "step_s": step_s, "cpu": cpu, "memory_bytes": memory, "processes": processes}


def log(agent: Agent, *, after: int = 0) -> QuerySet[LogPiece]:
    """What its own process has printed, in order, after the piece with that id."""
    return LogPiece.objects.filter(agent=agent, id__gt=after).order_by("id")


def last_lines(agent: Agent, *, lines: int) -> list[LogPiece]:
    """The pieces of its log that hold the last so many lines; the first one is cut, and not to be saved."""
    found: list[LogPiece] = []
    ends = 0
    for piece in LogPiece.objects.filter(agent=agent).order_by("-id").iterator(chunk_size=20):
        found.insert(0, piece)
        ends += piece.text.count("\n")
        if ends > lines:
            break
    text = "".join(piece.text for piece in found)
    left_out = len(text) - len(_end(text, lines=lines))
    while found and left_out >= len(found[0].text):
        left_out -= len(found.pop(0).text)
    if found:
        found[0].text = found[0].text[left_out:]
    return found


def _end(text: str, *, lines: int) -> str:
    place = len(text)
    for _ in range(lines):
        place = text.rfind("\n", 0, max(0, place - 1)) + 1
    return text[place:]
