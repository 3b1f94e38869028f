"""The lifecycle of an agent: spawning → idle ⇄ busy → draining → terminated, lost or failed."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
from django.db import connection, transaction

from agents.models import Agent, AgentType, Node
from fleet import errors, ids
from fleet.console import invocation
from fleet.events.models import Event
from fleet.postgres import statements


class AgentEnded(errors.Conflict):
    """The agent has ended. To continue, its process must register as a new agent."""


def create_agent(*, type: AgentType, node: Node, ordinal: int, concurrency: int, crashes: int = 0) -> Agent:
    """Create the row of an agent whose process its node will start."""
    with transaction.atomic():
        agent = Agent.objects.create(
            type=type, node=node, ordinal=ordinal, concurrency=concurrency, crashes=crashes, state=Agent.State.SPAWNING
        )
        Event.objects.create(kind="agent.spawning", subject=agent.id, data={"type": type.name, "node": node.name})
    return agent


def register(
    *, agent: UUID, agent_type: str, node: str, pid: int | None, start_time: float | None, concurrency: int = 1
) -> None:
    """Register a running agent. An external agent has neither node nor pid.

    Raises AgentEnded if its row has already ended, and NotFound if the type is unknown.
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
            raise AgentEnded(f"{ids.encode(ids.AGENT, agent)} has already ended.", hint="Spawn a new agent.")


def heartbeat(
    database: psycopg.Connection[Any],
    *,
    agent: UUID,
    running: int,
    settled: int | None = None,
    claimed_s_ago: float | None = None,
) -> bool:
    """Record that an agent is alive. Returns False if it has ended or was declared lost, and must stop.

    `running` is the number of its running sorties, `settled` how many it has settled (None: unchanged), and
    `claimed_s_ago` when it last claimed one (None: not yet).
    """
    row = database.execute(
        statements.read("agents", "heartbeat"),
        {"agent": agent, "running": running, "settled": settled, "claimed_s_ago": claimed_s_ago},
    ).fetchone()
    return row is not None


def mark_draining(*, agent: UUID) -> None:
    """Mark a live agent as draining: it claims nothing more."""
    with transaction.atomic():
        if Agent.objects.filter(id=agent, state__in=["spawning", "idle", "busy"]).update(state=Agent.State.DRAINING):
            Event.objects.create(kind="agent.draining", subject=agent)


def end(*, agents: list[UUID], state: Agent.State, reason: str, reaped: bool = False) -> list[UUID]:
    """End live agents as terminated, lost or failed, and return the ids of those that it ended.

    `reaped` says that no process of their workloads is left.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("agents", "end"),
            {"agents": agents, "state": state.value, "reason": reason[:300], "reaped": reaped},
        )
        return [agent for (agent,) in cursor.fetchall()]


def mark_reaped(*, agents: list[UUID]) -> None:
    """Mark ended agents of whose workloads no process is left, so that other agents can claim their sorties at once.

    The sorties of unmarked agents can be claimed once their leases have expired.
    """
    Agent.objects.filter(id__in=agents, ended_at__isnull=False, reaped=False).update(reaped=True)


def expire(*, after_s: float, spawn_s: float, external: bool = True) -> list[UUID]:
    """End agents that sent no heartbeat for `after_s`, or did not report within `spawn_s`. Returns their ids.

    With `external=False` external agents are spared, because the site was down and could not receive their heartbeats.
    """
    with connection.cursor() as cursor:
        cursor.execute(statements.read("agents", "expire"), {"after": after_s, "spawn": spawn_s, "external": external})
        return [agent for (agent,) in cursor.fetchall()]
