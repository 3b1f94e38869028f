"""An agent's life: spawning → idle ⇄ busy → draining → terminated, lost or failed."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
from django.db import connection, transaction

from agents.models import Agent, AgentType, Node
from fleet import errors, ids, invocation
from fleet.events.models import Event
from fleet.postgres import statements


class NoLonger(errors.Conflict):
    """This agent has ended; a process that wants to go on needs a new row."""


def spawned(*, type: AgentType, node: Node, place: int, concurrency: int, crashes: int = 0) -> Agent:
    """The row of an agent whose process is about to be started by its node."""
    with transaction.atomic():
        agent = Agent.objects.create(
            type=type, node=node, place=place, concurrency=concurrency, crashes=crashes, state=Agent.State.SPAWNING
        )
        Event.objects.create(kind="agent.spawning", subject=agent.id, data={"type": type.name, "node": node.name})
    return agent


def register(
    *, agent: UUID, agent_type: str, node: str, pid: int | None, start_time: float | None, concurrency: int = 1
) -> None:
    """A process reports itself; one from outside has neither node nor pid.

    NoLonger if its row has ended meanwhile; NotFound for an unknown type.
    """
    if not AgentType.objects.filter(name=agent_type).exists():
        raise errors.NotFound(
            f"There is no agent type {agent_type!r}.",
            hint=f"See: {invocation.command('fleet_agents', 'types')}",
            over_http="See GET /api/v1/agent-types.",
        )
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("agents", "register"),
            {
                "agent": agent,
                "type": agent_type,
                "node": node,
                "pid": pid,
                "start_time": start_time,
                "concurrency": concurrency,
            },
        )
        if cursor.fetchone() is None:
            raise NoLonger(f"{ids.encode(ids.AGENT, agent)} has ended already.", hint="Spawn a new agent.")


def heartbeat(
    database: psycopg.Connection[Any],
    *,
    agent: UUID,
    flying: int,
    flown: int | None = None,
    claimed_s_ago: float | None = None,
) -> bool:
    """Say that an agent is alive, how many sorties it flies and has flown (None: as many as before), and when it last took one
    (None: not yet); False if it has been given up and must stop."""
    row = database.execute(
        statements.read("agents", "heartbeat"),
        {"agent": agent, "flying": flying, "flown": flown, "claimed_s_ago": claimed_s_ago},
    ).fetchone()
    return row is not None


def draining(*, agent: UUID) -> None:
    """It takes nothing more."""
    with transaction.atomic():
        if Agent.objects.filter(id=agent, state__in=["spawning", "idle", "busy"]).update(state=Agent.State.DRAINING):
            Event.objects.create(kind="agent.draining", subject=agent)


def end(*, agents: list[UUID], state: Agent.State, reason: str, reaped: bool = False) -> list[UUID]:
    """End live agents (terminated, lost or failed); returns those that it ended. `reaped`: see `reaped`."""
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("agents", "end"),
            {"agents": agents, "state": state.value, "reason": reason[:300], "reaped": reaped},
        )
        return [agent for (agent,) in cursor.fetchall()]


def reaped(*, agents: list[UUID]) -> None:
    """Say of agents that have ended that nothing of their work runs any more, so that others may take it at once. Of those
    of whom nobody says so, the leases decide."""
    Agent.objects.filter(id__in=agents, ended_at__isnull=False, reaped=False).update(reaped=True)


def expire(*, after_s: float, spawn_s: float, outside: bool = True) -> list[UUID]:
    """Give up agents that were not heard of for so long (`spawn_s`: that have not reported at all); returns them.
    `outside` False: none from outside, who could not have been heard."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("agents", "expire"), {"after": after_s, "spawn": spawn_s, "outside": outside})
        return [agent for (agent,) in cursor.fetchall()]
