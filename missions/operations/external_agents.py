"""Agents that no node started: they register, claim, keep their leases and settle, from anywhere.

A claim answers with a *lease token* (missions/attempt_tokens.py). Its holder may renew the attempt's lease, report
on it and end it.
Once the lease is lost or the attempt has ended, every call with it is a Conflict.

What the fleet's own agents start has a token too. With it it may report and ask whether somebody wants it stopped; its agent
keeps the lease, and says by its exit what came of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import F, JSONField
from django.db.models.expressions import RawSQL

from agents import operations as agents
from agents.drivers.base import Evidence
from agents.models import Agent, AgentType
from fleet import audit, errors, ids, values
from fleet.observability.redactor import Redactor
from fleet.postgres import statements
from missions import attempt_tokens, claims, hints
from missions.attempt_tokens import StaleLease
from missions.claims import Claim
from missions.engine import added_sorties, description, preparation, settle_and_claim, verdict
from missions.engine.settling import Consequences, Settlement
from missions.models import Attempt, Sortie
from missions.operations import attempt_auth, moves
from missions.operations.attempt_auth import AuthenticatedAttempt
from missions.plan import SortieSpec

MOST = 64  # sorties in one claim
PIECE_CHARS = 16_000  # of output from outside: so much at a time is left out where it is too much
ROW_BYTES = 100  # that a piece takes beside its text


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What a claim gives: a token for one attempt, and all that is to be known for the work."""

    token: str
    sortie: UUID
    mission: UUID
    key: str
    attempt: int
    lease_s: float  # without a heartbeat it is lost after so long
    work: Mapping[str, Any]  # see missions/engine/description.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """The answer to a heartbeat: which tokens still hold, and which attempts somebody wants stopped."""

    held: frozenset[str]
    cancelled: frozenset[str]


def register(*, agent_type: str, concurrency: int = 1, by: User | None = None) -> Agent:
    """An agent from outside reports itself. It is lost if nothing is heard of it for FLEET_LEASE_S.

    NotFound for an unknown type, Conflict for a disabled one.
    """
    if AgentType.objects.filter(name=agent_type, enabled=False).exists():
        raise errors.Conflict(
            f"Agent type {agent_type} is disabled.",
            hint="Enable it in the admin, under Agent types.",
            over_http="Ask an administrator to enable it.",
        )
    agent = ids.new()
    with transaction.atomic():
        agents.register(
            agent=agent, agent_type=agent_type, node="", pid=None, start_time=None, concurrency=max(1, concurrency)
        )
        Agent.objects.filter(id=agent).update(by=by)
        told = {"type": agent_type, "concurrency": max(1, concurrency)}
        audit.record(kind="agent.register", subject=ids.encode(ids.AGENT, agent), after=told)
    return Agent.objects.select_related("type", "node").get(id=agent)


def registered(*, agent: UUID, by: User | None) -> Agent:
    """An agent from outside; NotFound where it is another user's (`by` None: whosever)."""
    found = Agent.objects.filter(id=agent, node=None, **({"by": by} if by else {})).first()
    if found is None:
        raise errors.NotFound(f"There is no agent {ids.encode(ids.AGENT, agent)} of yours.", hint="Register one.")
    return found


def claim(*, agent: UUID, want: int = 1) -> list[Lease]:
    """Up to `want` sorties of the agent's type, the most urgent first, each with its token, and no more at once than its
    concurrency. Conflict if it has ended, holds as many already, or is to end when what it holds has."""
    row = _heard(agent)
    if row.order:
        raise errors.Conflict(
            f"{row.ref} is ordered to {row.order}, so it takes no more.", hint="Finish what it holds; then it ends."
        )
    with transaction.atomic(), connection.cursor() as cursor:
        room = _room(agent)
        consequences = settle_and_claim.settle_and_claim(
            cursor.cursor, by=_party(row), want=min(max(want, 1), room, MOST)
        )
        given = [_lease(claimed) for claimed in consequences.claimed]
        cursor.executemany(
            "UPDATE missions_attempt SET token = %s WHERE sortie_id = %s AND number = %s",
            [(attempt_tokens.digest(lease.token), lease.sortie, lease.attempt) for lease in given],
        )
        for lease in given:
            _told("claim", lease.sortie, lease.attempt, agent=row.ref)
    if given:
        _alive(agent, claimed=True)
    return given


def heartbeat(*, agent: UUID, tokens: Sequence[str] = ()) -> Renewed:
    """Say that the agent lives, and extend the leases of these tokens. Those that are not `held` are lost; what is no
    token at all holds nothing, and costs the others nothing.

    Conflict if the agent has been given up, or if it shows tokens of which none holds.
    """
    row = _heard(agent)
    given = [(named, token) for token in tokens if (named := attempt_auth.parse(token)) is not None]
    digests = {
        (sortie, number): digest
        for sortie, number, digest in Attempt.objects.filter(
            sortie__in={sortie for (sortie, _), _ in given}, agent=agent
        ).values_list("sortie", "number", "token")
    }
    good = {named: token for named, token in given if attempt_tokens.is_of(token, digests.get(named))}
    with connection.cursor() as cursor:
        renewal = claims.renew(cursor.cursor, held=sorted(good), lease_s=settings.FLEET_LEASE_S)
    if tokens and not renewal.held:
        raise StaleLease(f"{row.ref} holds none of these leases any more.", hint="Stop that work, and claim anew.")
    return Renewed(
        held=frozenset(good[one] for one in renewal.held),
        cancelled=frozenset(good[one] for one in renewal.cancelled),
    )


def keep(*, token: str) -> Renewed:
    """Extend one lease; StaleLease where it is lost. That of the fleet's own agents is theirs to extend."""
    held = attempt_auth.authenticate(token)
    if held.ours:
        cancelled = Sortie.objects.filter(id=held.claim.id, cancel_requested=True).exists()
        return Renewed(held=frozenset({token}), cancelled=frozenset({token} if cancelled else ()))
    return heartbeat(agent=held.agent, tokens=[token])


def _print(cursor: Any, sortie: UUID, attempt: int, text: str) -> None:
    """Keep what an attempt from outside printed, within the bound that those of the fleet have (missions/engine/output.py). Those
    have it in memory; here each request counts what is stored."""
    size = max(1, min(PIECE_CHARS, settings.FLEET_OUTPUT_BYTES // 8))
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    cursor.execute(
        statements.read("missions.engine", "output"),
        {
            "ids": [sortie] * len(pieces),
            "attempts": [attempt] * len(pieces),
            "streams": ["stdout"] * len(pieces),
            "ats": [time.time()] * len(pieces),
            "texts": pieces,
        },
    )
    bound = {"sortie": sortie, "attempt": attempt, "half": settings.FLEET_OUTPUT_BYTES // 2, "row": ROW_BYTES}
    cursor.execute(statements.read("missions.operations", "trim_output"), bound)


def progress(*, token: str, fraction: float | None = None, note: str = "", output: str = "") -> None:
    """How far the work is (0 to 1), what is being done, and what it printed. StaleLease where the lease is lost.

    Of the fleet's own, what they print is kept already, within bounds; so an `output` is Invalid there.
    """
    held = attempt_auth.authenticate(token)
    if not held.ours:
        _heard(held.agent)
    elif output:
        raise errors.Invalid("What this attempt prints is its output.", hint="Print it, and leave `output` out.")
    redactor = _redactor(held, token)
    output, note = redactor.text(output), redactor.text(note)
    with transaction.atomic(), connection.cursor() as cursor:
        if not held.ours:
            cursor.execute(
                statements.read("missions.engine", "heard"), {"ids": [held.claim.id], "attempts": [held.claim.attempt]}
            )
        if output:
            _print(cursor, held.claim.id, held.claim.attempt, output.replace("\x00", "�"))
        if fraction is not None or note:
            cursor.execute(
                statements.read("missions.engine", "progress"),
                {
                    "ids": [held.claim.id],
                    "attempts": [held.claim.attempt],
                    "fractions": [None if fraction is None else min(max(fraction, 0.0), 1.0)],
                    "notes": [note.replace("\x00", "�")[:200]],
                },
            )


def complete(
    *, token: str, result: Any = None, added: Sequence[Mapping[str, Any]] = (), verified: int | None = None
) -> str:
    """The work succeeded. Where the plan names a `verify`, `verified` is the exit code with which it ended there, and
    has the last word. Answers with the sortie's state: succeeded, waiting for a next try, or failed.

    Saying it twice is answered as the first time; with another result it is a Conflict. StaleLease where the lease is lost;
    Invalid for a result that is no JSON or too large; PlanError for sorties that may not be added.
    """
    held = attempt_auth.authenticate_to_end(token, "succeeded")
    try:
        values.check(result, max_bytes=settings.FLEET_RESULT_BYTES)
    except values.Unacceptable as fault:
        raise errors.Invalid(
            f"The result is not accepted: {fault}.", hint="Give large things out as files.", pointer="/result"
        ) from None
    redactor = _redactor(held, token)
    result, added = redactor.value(result), redactor.value(list(added))
    if held.repeated_state is not None:
        _ask_for_same(held.claim, result)
        return held.repeated_state
    if not all(isinstance(one, Mapping) for one in added):
        raise errors.Invalid("A sortie to be added is no object.", hint="Send them as FLEET_SORTIES has them.")
    evidence = Evidence(finished=True, ok=True, result=result, added=tuple(dict(one) for one in added))
    if held.spec.verify is not None and verified != 0:
        said = "nothing was said of it" if verified is None else f"it ended with exit code {verified}"
        evidence = Evidence(
            finished=True,
            ok=False,
            error=f"The work succeeded, but `verify` failed: {said}.",
            exit_code=verified,
        )
    more = added_sorties.check(claim=held.claim, items=evidence.added) if evidence.added else ()
    return _settle(held, verdict.judge(claim=held.claim, spec=held.spec, evidence=evidence, added=more))


def _ask_for_same(claim: Claim, result: Any) -> None:
    """Conflict where this attempt was accepted with another result. Postgres compares, which has its own numbers."""
    accepted = Attempt.objects.filter(sortie=claim.id, number=claim.attempt)
    same = accepted.filter(result=RawSQL("%s::jsonb", [values.encode(result)], JSONField()))
    if not same.exists():
        raise errors.Conflict(
            f"{claim.key} has succeeded already, with another result, which stays.",
            hint="Say no more of it: it has ended.",
        )


def fail(*, token: str, error: str, retry: bool = True) -> str:
    """The work failed; it is tried again while tries are left, unless `retry` is false. Answers as `complete` does."""
    held = attempt_auth.authenticate_to_end(token, "failed")
    if held.repeated_state is not None:
        return held.repeated_state
    error = _redactor(held, token).text(error) or "it failed without saying why"
    return _settle(held, verdict.failed(claim=held.claim, spec=held.spec, error=error, permanent=not retry))


def give_back(*, token: str, why: str = "its agent handed it back") -> None:
    """Queue it again; costs no try."""
    held = attempt_auth.authenticate_to_end(token)
    with transaction.atomic(), connection.cursor() as cursor:
        consequences = settle_and_claim.give_back(
            cursor.cursor, attempts=[(held.claim.id, held.claim.attempt)], why=why.replace("\x00", "�")[:500]
        )
        _told("give_back", held.claim.id, held.claim.attempt)
    _after(consequences)


def leave(*, agent: UUID) -> None:
    """The agent ends; what it holds goes back to the queue at once."""
    _end(_alive(agent), why="its agent left", reason="It left.", told="agent.leave")


def _redactor(held: AuthenticatedAttempt, token: str) -> Redactor:
    agent_type = Sortie.objects.values_list("agent_type", flat=True).get(id=held.claim.id)
    return preparation.redactor_of_external(claim=held.claim, spec=held.spec, agent_type=agent_type, token=token)


def _settle(held: AuthenticatedAttempt, settlement: Settlement) -> str:
    row = Agent.objects.get(id=held.agent)
    with transaction.atomic(), connection.cursor() as cursor:
        consequences = settle_and_claim.settle_and_claim(cursor.cursor, by=_party(row), settlements=[settlement])
        Agent.objects.filter(id=held.agent).update(flown=F("flown") + len(consequences.accepted))
        if held.claim.id in consequences.accepted:
            _told("complete" if settlement.outcome == "succeeded" else "fail", held.claim.id, held.claim.attempt)
    if held.claim.id not in consequences.accepted:
        raise StaleLease(f"The lease on {held.claim.key} is lost.", hint="Stop that work, and claim anew.")
    _after(consequences)
    return str(Sortie.objects.values_list("state", flat=True).get(id=held.claim.id))


def _told(what: str, sortie: UUID, attempt: int, **more: str) -> None:
    audit.record(kind=f"sortie.{what}", subject=ids.encode(ids.SORTIE, sortie), data={"attempt": attempt, **more})


def _after(consequences: Consequences) -> None:
    transaction.on_commit(lambda: hints.ring(consequences.freed, consequences.named))
    if consequences.missions:
        moves.complete(missions=list(consequences.missions))


def _alive(agent: UUID, *, claimed: bool = False) -> Agent:
    """Note that it was heard of; Conflict if it has ended."""
    flying = Sortie.objects.filter(state="running", agent=agent).count()
    with connection.cursor() as cursor:
        heard = agents.heartbeat(
            cursor.cursor.connection, agent=agent, flying=flying, claimed_s_ago=0.0 if claimed else None
        )
    if not heard:
        raise agents.NoLonger(f"{ids.encode(ids.AGENT, agent)} has ended, or never was.", hint="Register anew.")
    return Agent.objects.get(id=agent)


def _heard(agent: UUID) -> Agent:
    """`_alive`, and what it was ordered is done, as it has no node to do that: one that is to drain ends as soon as it holds
    nothing, and any other now, which gives back what it holds. Conflict where it has."""
    row = _alive(agent)
    holds = row.order and Sortie.objects.filter(state="running", agent=row.id).exists()
    if not row.order or (row.order == Agent.Order.DRAIN and holds):
        return row
    _end(row, why="its agent was ordered to end", reason=row.reason or f"It was ordered to {row.order}.")
    raise agents.NoLonger(f"{row.ref} has ended: {row.reason}", hint="Stop its work. Register anew to go on.")


def _end(row: Agent, *, why: str, reason: str, told: str = "") -> None:
    """What it holds goes back to the queue at once; `why` is told of that, and `reason` of the agent. `told`: as what the
    audit trail tells it, where it has not told of the order already."""
    with transaction.atomic(), connection.cursor() as cursor:
        if told:
            audit.record(kind=told, subject=row.ref)
        holds = list(Sortie.objects.filter(state="running", agent=row.id).values_list("id", "attempt"))
        consequences = settle_and_claim.give_back(cursor.cursor, attempts=holds, why=why)
        agents.end(agents=[row.id], state=Agent.State.TERMINATED, reason=reason)
    _after(consequences)


def _room(agent: UUID) -> int:
    """How many more it may hold; of two claims at once the second waits here for the first. Conflict where none."""
    row = Agent.objects.select_for_update().get(id=agent)
    holds = Sortie.objects.filter(state="running", agent=agent).count()
    if holds >= row.concurrency:
        raise errors.Conflict(
            f"{row.ref} holds {holds} {'sortie' if holds == 1 else 'sorties'}, which is its concurrency.",
            hint="Settle one first, or register with a larger `concurrency`.",
        )
    return row.concurrency - holds


def _party(agent: Agent) -> settle_and_claim.Party:
    return settle_and_claim.Party(agent=agent.id, agent_type=agent.type_id, lease_s=settings.FLEET_LEASE_S)


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
