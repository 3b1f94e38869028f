"""Queries about agents: finding them, their usage, their samples and their logs."""

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
from fleet import errors, ids
from fleet.console import invocation
from fleet.postgres import statements

HOUR_S, STEP_S = 3_600, 120  # the span of a sparkline, and its steps
STEPS_S = (10, 30, 60, 300, 600, 1_800, 3_600, 21_600, 86_400)  # the possible steps of a history


def find(reference: str) -> Agent:
    """Find an agent by its id (`agt_…`), or a live one by its name (`backend-1@host`, or `backend-1` if unique).

    Raises NotFound if there is none, and Conflict if the name is ambiguous.
    """
    agents = Agent.objects.select_related("type", "node")
    if reference.startswith(f"{ids.AGENT}_"):
        agent = agents.filter(id=ids.decode(ids.AGENT, reference)).first()
        if agent is None:
            raise errors.NotFound(
                f"There is no agent {reference}.", hint=f"See: {invocation.command('fleet_agents', 'list', '--all')}"
            )
        return agent
    matches = [agent for agent in live(agents) if reference in {agent.name, agent.name.partition("@")[0]}]
    if not matches:
        raise errors.NotFound(
            f"No live agent is called {reference!r}.", hint=f"See: {invocation.command('fleet_agents', 'list')}"
        )
    if len(matches) > 1:
        full_names = ", ".join(agent.name for agent in matches)
        raise errors.Conflict(
            f"{len(matches)} agents are called {reference!r}.", hint=f"Use the full name: {full_names}."
        )
    return matches[0]


def live(agents: QuerySet[Agent] | None = None) -> QuerySet[Agent]:
    """The agents that have not ended, ordered by type, node and ordinal."""
    if agents is None:
        agents = Agent.objects.select_related("type", "node")
    return agents.filter(state__in=Agent.LIVE).order_by("type", "node__name", "ordinal", "id")


def served_types() -> frozenset[str]:
    """The names of the types with an agent that claims work, or will soon.

    Such an agent is starting, or sent a heartbeat within its lease, and is not ordered to end.
    """
    fresh = Now() - timedelta(seconds=settings.FLEET_LEASE_S)
    alive = Q(state__in=(Agent.State.IDLE, Agent.State.BUSY), heartbeat_at__gt=fresh)
    claiming = Agent.objects.filter(alive | Q(state=Agent.State.SPAWNING), order__in=("", Agent.Order.RESTART))
    return frozenset(claiming.order_by().values_list("type", flat=True).distinct())


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an agent and its descendants use: the last sample, the peak, and the last hour."""

    at: datetime
    cpu: float  # cores in use
    memory_bytes: int
    peak_bytes: int  # the highest of its samples, which may be means
    processes: int
    hour: list[float | None]  # cores in use per two minutes, oldest first; None: unknown


def usage(agents: Sequence[Agent]) -> dict[UUID, Usage]:
    """The usage of each of the agents that has a sample. Takes two queries."""
    parameters = {"agents": [agent.id for agent in agents]}
    hours: dict[UUID, list[float | None]] = {agent.id: [None] * (HOUR_S // STEP_S) for agent in agents}
    with connection.cursor() as cursor:
        cursor.execute(statements.read("agents", "usage_steps"), {**parameters, "span_s": HOUR_S, "step_s": STEP_S})
        for agent, steps_ago, cpu in cursor.fetchall():
            hours[agent][-1 - steps_ago] = cpu
        cursor.execute(statements.read("agents", "usage"), parameters)
        return {
            agent: Usage(at=at, cpu=cpu, memory_bytes=memory, peak_bytes=peak, processes=processes, hour=hours[agent])
            for agent, at, cpu, memory, processes, peak in cursor.fetchall()
        }


def samples(agent: Agent, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The history of an agent, oldest first: `{at, step_s, cpu, memory_bytes, processes}`.

    `limit` bounds the number of steps (one more is possible at each end) by making them longer. A longer step has the
    mean of `cpu` and the maximum of the others.
    """
    history = Sample.objects.filter(agent=agent)
    if limit is None:
        rows = history.order_by("at").values("at", "step_s", "cpu", "memory_bytes", "processes")
        yield from (dict(row) for row in rows.iterator())
        return
    span = history.aggregate(first=Min("at"), last=Max("at"))
    if span["first"] is None:
        return
    span_s = (span["last"] - span["first"]).total_seconds()
    step_s = next((step for step in STEPS_S if span_s / step <= limit), STEPS_S[-1])
    with connection.cursor() as cursor:
        cursor.execute(statements.read("agents", "history"), {"agent": agent.id, "step_s": step_s})
        for at, cpu, memory, processes in cursor.fetchall():
            yield {"at": at, "step_s": step_s, "cpu": cpu, "memory_bytes": memory, "processes": processes}


def log(agent: Agent, *, after: int = 0) -> QuerySet[LogPiece]:
    """The log of an agent's own process, in order, after the piece with this id."""
    return LogPiece.objects.filter(agent=agent, id__gt=after).order_by("id")


def last_lines(agent: Agent, *, lines: int) -> list[LogPiece]:
    """The last lines of an agent's log, as pieces. The first one is cut to size: do not save it."""
    pieces: list[LogPiece] = []
    newlines = 0
    for piece in LogPiece.objects.filter(agent=agent).order_by("-id").iterator(chunk_size=20):
        pieces.insert(0, piece)
        newlines += piece.text.count("\n")
        if newlines > lines:
            break
    text = "".join(piece.text for piece in pieces)
    surplus = len(text) - len(_tail(text, lines=lines))
    while pieces and surplus >= len(pieces[0].text):
        surplus -= len(pieces.pop(0).text)
    if pieces:
        pieces[0].text = pieces[0].text[surplus:]
    return pieces


def _tail(text: str, *, lines: int) -> str:
    start = len(text)
    for _ in range(lines):
        start = text.rfind("\n", 0, max(0, start - 1)) + 1
    return text[start:]
