"""The life of external agents: registration, heartbeats with each request, orders, and the end."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, transaction

from agents import operations as agents
from agents.models import Agent, AgentType
from agents.operations import types
from fleet import audit, errors, ids
from fleet.console import invocation
from missions import hints
from missions.engine.settlement import settle_and_claim
from missions.engine.settlement.settling import Consequences
from missions.models import Sortie
from missions.operations import transitions
from missions.states import SortieState


def register(*, agent_type: str, concurrency: int = 1, by: User | None = None) -> Agent:
    """Register an external agent. It is lost if it sends no request for FLEET_LEASE_S.

    Raises NotFound for an unknown type, Conflict for a disabled one, and Forbidden if `by` is a user and the type is
    not open to external agents. Without a user, the operator's own program registers, which may do so for any type.
    """
    row = types.find(agent_type)
    if not row.enabled:
        raise errors.Conflict(
            f"Agent type {agent_type} is disabled.",
            hint="Enable it in the admin, under Agent types.",
            over_http="Ask an admin to enable it.",
        )
    if by is not None:
        require_open_type(row)
    agent = ids.new()
    with transaction.atomic():
        agents.register(
            agent=agent, agent_type=agent_type, node="", pid=None, start_time=None, concurrency=max(1, concurrency)
        )
        Agent.objects.filter(id=agent).update(by=by)
        after = {"type": agent_type, "concurrency": max(1, concurrency)}
        audit.record(kind="agent.register", subject=ids.encode(ids.AGENT, agent), after=after)
    return Agent.objects.select_related("type", "node").get(id=agent)


def require_open_type(agent_type: AgentType) -> None:
    """Raise Forbidden unless an operator opened the type to external agents, which get the variables of its plans."""
    if agent_type.open_to_external:
        return
    raise errors.Forbidden(
        f"Agent type {agent_type.name} is not open to external agents.",
        hint=f"To reserve it for them: {invocation.command('fleet_agents', 'type', 'set', agent_type.name, '--external', 'on')}",
        over_http="Use a type whose `external` or `accepts_external` is true in GET /api/v1/agent-types, or ask an "
        "admin to set one of them.",
    )


def owned_agent(*, agent: UUID, by: User | None) -> Agent:
    """The external agent that `by` registered (None: any user). Raises NotFound if there is none."""
    external_agents = Agent.objects.filter(id=agent, node=None)
    row = (external_agents if by is None else external_agents.filter(by=by)).first()
    if row is None:
        raise errors.NotFound(
            f"You have no external agent {ids.encode(ids.AGENT, agent)}.", hint="Register one, and use its id."
        )
    return row


def leave(*, agent: UUID) -> None:
    """End an external agent at its own request; the sorties that it holds return to the queue at once."""
    _end(record_heartbeat(agent), why="its agent left", reason="It left.", audit_kind="agent.leave")


def record_heartbeat(agent: UUID, *, claimed: bool = False) -> Agent:
    """Record that the agent is alive. Raises Conflict if it has ended."""
    running = Sortie.objects.filter(state=SortieState.RUNNING, agent=agent).count()
    with connection.cursor() as cursor:
        alive = agents.heartbeat(
            cursor.cursor.connection, agent=agent, running=running, claimed_s_ago=0.0 if claimed else None
        )
    if not alive:
        raise agents.AgentEnded(f"{ids.encode(ids.AGENT, agent)} has ended or never existed.", hint="Register again.")
    return Agent.objects.get(id=agent)


def record_heartbeat_and_apply_order(agent: UUID) -> Agent:
    """Record that the agent is alive, and carry out its order, since no node does so for an external agent.

    An agent ordered to drain ends once it holds no sortie. Any other order ends it now and returns its sorties to the
    queue. Raises Conflict if it has ended.
    """
    row = record_heartbeat(agent)
    holds = row.order and Sortie.objects.filter(state=SortieState.RUNNING, agent=row.id).exists()
    if not row.order or (row.order == Agent.Order.DRAIN and holds):
        return row
    _end(row, why="its agent was ordered to end", reason=row.reason or f"It was ordered to {row.order}.")
    raise agents.AgentEnded(f"{row.ref} has ended: {row.reason}", hint="Stop its work. To continue, register again.")


def _end(row: Agent, *, why: str, reason: str, audit_kind: str = "") -> None:
    """End the agent and return the sorties that it holds to the queue.

    `why` is recorded with the sorties, `reason` with the agent. `audit_kind` is empty if the order was audited already.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        if audit_kind:
            audit.record(kind=audit_kind, subject=row.ref)
        attempts = list(Sortie.objects.filter(state=SortieState.RUNNING, agent=row.id).values_list("id", "attempt"))
        consequences = settle_and_claim.give_back(cursor.cursor, attempts=attempts, why=why)
        agents.end(agents=[row.id], state=Agent.State.TERMINATED, reason=reason)
    follow_up(consequences)


def follow_up(consequences: Consequences) -> None:
    """Send hints after the commit, and complete missions."""
    transaction.on_commit(lambda: hints.send(consequences.queued, consequences.queued_sorties))
    if consequences.missions:
        transitions.complete(missions=list(consequences.missions))


def claimant(agent: Agent) -> settle_and_claim.Claimant:
    return settle_and_claim.Claimant(
        agent=agent.id, agent_type=agent.type_id, lease_s=settings.FLEET_LEASE_S, external=True
    )


def audit_attempt(verb: str, sortie: UUID, attempt: int, **more: str) -> None:
    audit.record(kind=f"sortie.{verb}", subject=ids.encode(ids.SORTIE, sortie), data={"attempt": attempt, **more})
