"""External agents claim sorties and renew their leases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from agents.models import Agent
from fleet import errors
from missions import attempt_tokens, claims
from missions.attempt_tokens import StaleLease
from missions.claims import Claim
from missions.engine.attempts import description
from missions.engine.settlement import settle_and_claim
from missions.models import Attempt, Sortie
from missions.operations.external_agents import attempt_auth, membership
from missions.plan import SortieSpec
from missions.states import SortieState

MAX_CLAIM = 64  # sorties in one claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A claimed attempt: its token, and everything that the agent needs for the work."""

    token: str
    sortie: UUID
    mission: UUID
    key: str
    attempt: int
    lease_s: float  # the lease is lost after this long without a heartbeat
    work: Mapping[str, Any]  # see missions/engine/attempts/description.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The result of a heartbeat: the tokens whose leases were renewed, and those whose attempts must be stopped."""

    renewed: frozenset[str]
    cancelled: frozenset[str]


def claim(*, agent: UUID, count: int = 1) -> list[Lease]:
    """Claim up to `count` sorties of the agent's type, the most urgent first; at most `concurrency` are held at once.

    Raises Conflict if the agent has ended, is draining, or already holds as many sorties as its concurrency, and
    Forbidden if a user registered it and its type is no longer open to external agents.
    """
    row = membership.record_heartbeat_and_apply_order(agent)
    if row.by_id is not None:
        membership.require_open_type(row.type)
    if row.order:
        raise errors.Conflict(
            f"{row.ref} was ordered to {row.order}, so it may not claim more sorties.",
            hint="Finish the sorties that it holds; then it ends.",
        )
    with transaction.atomic(), connection.cursor() as cursor:
        room = _room(agent)
        consequences = settle_and_claim.settle_and_claim(
            cursor.cursor, by=membership.claimant(row), max_claims=min(max(count, 1), room, MAX_CLAIM)
        )
        leases = [_lease(claimed) for claimed in consequences.claims]
        cursor.executemany(
            "UPDATE missions_attempt SET token = %s WHERE sortie_id = %s AND number = %s",
            [(attempt_tokens.digest(lease.token), lease.sortie, lease.attempt) for lease in leases],
        )
        for lease in leases:
            membership.audit_attempt("claim", lease.sortie, lease.attempt, agent=row.ref)
    if leases:
        membership.record_heartbeat(agent, claimed=True)
    return leases


def heartbeat(*, agent: UUID, tokens: Sequence[str] = ()) -> Heartbeat:
    """Record that the agent is alive, and renew the leases of these tokens. Leases absent from `renewed` are lost.

    Malformed tokens are ignored. Raises Conflict if the agent has ended, or if none of its tokens holds a lease.
    """
    row = membership.record_heartbeat_and_apply_order(agent)
    parsed = [(attempt, token) for token in tokens if (attempt := attempt_auth.parse(token)) is not None]
    digests = {
        (sortie, number): digest
        for sortie, number, digest in Attempt.objects.filter(
            sortie__in={sortie for (sortie, _), _ in parsed}, agent=agent
        ).values_list("sortie", "number", "token")
    }
    valid = {attempt: token for attempt, token in parsed if attempt_tokens.matches(token, digests.get(attempt))}
    with connection.cursor() as cursor:
        renewal = claims.renew(cursor.cursor, attempts=sorted(valid), lease_s=settings.FLEET_LEASE_S)
    if tokens and not renewal.renewed:
        raise StaleLease(f"{row.ref} no longer holds any of these leases.", hint="Stop the work and claim again.")
    return Heartbeat(
        renewed=frozenset(valid[attempt] for attempt in renewal.renewed),
        cancelled=frozenset(valid[attempt] for attempt in renewal.cancelled),
    )


def renew_lease(*, token: str) -> Heartbeat:
    """Renew one lease, except one that an agent of the fleet renews itself. Raises StaleLease if it is lost."""
    attempt = attempt_auth.authenticate(token)
    if attempt.internal:
        cancelled = Sortie.objects.filter(id=attempt.claim.id, cancel_requested=True).exists()
        return Heartbeat(renewed=frozenset({token}), cancelled=frozenset({token} if cancelled else ()))
    return heartbeat(agent=attempt.agent, tokens=[token])


def _room(agent: UUID) -> int:
    """How many more sorties the agent may hold; locks its row, to serialise claims. Raises Conflict if none."""
    row = Agent.objects.select_for_update().get(id=agent)
    count = Sortie.objects.filter(state=SortieState.RUNNING, agent=agent).count()
    if count >= row.concurrency:
        raise errors.Conflict(
            f"{row.ref} holds {count} {'sortie' if count == 1 else 'sorties'}, as many as its concurrency allows.",
            hint="Settle one first, or register with a larger `concurrency`.",
        )
    return row.concurrency - count


def _lease(claimed: Claim) -> Lease:
    spec = SortieSpec.from_json(claimed.spec)
    return Lease(
        token=attempt_tokens.make(sortie=claimed.id, attempt=claimed.attempt),
        sortie=claimed.id,
        mission=claimed.mission,
        key=claimed.key,
        attempt=claimed.attempt,
        lease_s=settings.FLEET_LEASE_S,
        work=description.describe(claim=claimed, spec=spec),
    )
