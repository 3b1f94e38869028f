"""External agents: agents that no node started. From anywhere, they register, claim, renew leases and settle over HTTP.

A claim returns a *lease token* (missions/attempt_tokens.py). Its holder may renew the attempt's lease, report on it and
end it. Once the lease is lost or the attempt has ended, every call with the token is a Conflict.

The work that the fleet's own agents start has a token too. With it the work may report, and ask whether it has been
cancelled. Its agent renews the lease and settles the outcome when the work exits.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import F, JSONField
from django.db.models.expressions import RawSQL

from agents import operations as agents
from agents.drivers.base import RESUME_BYTES, Evidence
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
from missions.operations import attempt_auth, transitions
from missions.operations.attempt_auth import AuthenticatedAttempt
from missions.plan import SortieSpec

MAX_CLAIM = 64  # sorties in one claim
PIECE_CHARS = 16_000  # of output per row; trimming removes whole rows
ROW_BYTES = 100  # size of a row of output without its text
UNCHANGED: Final = object()  # no value to resume from is sent; None is a value


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A claimed attempt: its token, and everything that the agent needs for the work."""

    token: str
    sortie: UUID
    mission: UUID
    key: str
    attempt: int
    lease_s: float  # the lease is lost after this long without a heartbeat
    work: Mapping[str, Any]  # see missions/engine/description.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The answer to a heartbeat: the tokens whose leases are renewed, and those whose attempts must be stopped."""

    renewed: frozenset[str]
    cancelled: frozenset[str]


def register(*, agent_type: str, concurrency: int = 1, by: User | None = None) -> Agent:
    """Register an external agent. It is lost if it sends no request for FLEET_LEASE_S.

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
        after = {"type": agent_type, "concurrency": max(1, concurrency)}
        audit.record(kind="agent.register", subject=ids.encode(ids.AGENT, agent), after=after)
    return Agent.objects.select_related("type", "node").get(id=agent)


def owned_agent(*, agent: UUID, by: User | None) -> Agent:
    """The external agent that `by` registered (None: any user). NotFound if there is none."""
    row = Agent.objects.filter(id=agent, node=None, **({"by": by} if by else {})).first()
    if row is None:
        raise errors.NotFound(
            f"You have no external agent {ids.encode(ids.AGENT, agent)}.", hint="Register one, and use its id."
        )
    return row


def claim(*, agent: UUID, want: int = 1) -> list[Lease]:
    """Claim up to `want` sorties of the agent's type, the most urgent first; at most `concurrency` are held at once.

    Conflict if the agent has ended, is draining, or already holds as many sorties as its concurrency.
    """
    row = _heartbeat_and_obey(agent)
    if row.order:
        raise errors.Conflict(
            f"{row.ref} was ordered to {row.order}, so it may claim nothing more.",
            hint="Finish the sorties that it holds; then it ends.",
        )
    with transaction.atomic(), connection.cursor() as cursor:
        room = _room(agent)
        consequences = settle_and_claim.settle_and_claim(
            cursor.cursor, by=_party(row), want=min(max(want, 1), room, MAX_CLAIM)
        )
        leases = [_lease(claimed) for claimed in consequences.claimed]
        cursor.executemany(
            "UPDATE missions_attempt SET token = %s WHERE sortie_id = %s AND number = %s",
            [(attempt_tokens.digest(lease.token), lease.sortie, lease.attempt) for lease in leases],
        )
        for lease in leases:
            _audit("claim", lease.sortie, lease.attempt, agent=row.ref)
    if leases:
        _heartbeat(agent, claimed=True)
    return leases


def heartbeat(*, agent: UUID, tokens: Sequence[str] = ()) -> Heartbeat:
    """Record that the agent is alive, and renew the leases of these tokens. Leases absent from `renewed` are lost.

    Malformed tokens are ignored. Conflict if the agent has ended, or if none of its tokens holds a lease.
    """
    row = _heartbeat_and_obey(agent)
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
    """Renew one lease; StaleLease if it is lost. If one of the fleet's own agents holds it, that agent renews it."""
    attempt = attempt_auth.authenticate(token)
    if attempt.internal:
        cancelled = Sortie.objects.filter(id=attempt.claim.id, cancel_requested=True).exists()
        return Heartbeat(renewed=frozenset({token}), cancelled=frozenset({token} if cancelled else ()))
    return heartbeat(agent=attempt.agent, tokens=[token])


def _store_output(cursor: Any, sortie: UUID, attempt: int, text: str) -> None:
    """Store an external attempt's output, within the same bound as the fleet's own (missions/engine/output.py).

    The fleet's own agents apply the bound in memory; here each request counts what is stored.
    """
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


def progress(
    *, token: str, fraction: float | None = None, note: str = "", output: str = "", resume: Any = UNCHANGED
) -> None:
    """Report progress (a fraction from 0 to 1), a note on the current step, output, and a value to resume from.

    The next attempt gets the last `resume` with its work; None has it start from scratch. StaleLease if the lease is
    lost. `output` and `resume` are Invalid for attempts that the fleet's own agents run, which capture what is printed
    and written to FLEET_RESUME.
    """
    attempt = attempt_auth.authenticate(token)
    if not attempt.internal:
        _heartbeat_and_obey(attempt.agent)
    elif output:
        raise errors.Invalid(
            "This attempt's output is what it prints, so it takes no `output`.",
            hint="Print the text, and omit `output`.",
        )
    elif resume is not UNCHANGED:
        raise errors.Invalid(
            "This attempt saves what it needs to resume in a file, so it takes no `resume`.",
            hint="Write the value to FLEET_RESUME, and omit `resume`.",
        )
    redactor = _redactor(attempt, token)
    output, note = redactor.text(output), redactor.text(note)
    if resume is not UNCHANGED:
        resume = _acceptable_resume(resume, redactor)
    with transaction.atomic(), connection.cursor() as cursor:
        if not attempt.internal:
            cursor.execute(
                statements.read("missions.engine", "record_activity"),
                {"ids": [attempt.claim.id], "attempts": [attempt.claim.attempt]},
            )
        if output:
            _store_output(cursor, attempt.claim.id, attempt.claim.attempt, output.replace("\x00", "�"))
        if fraction is not None or note:
            cursor.execute(
                statements.read("missions.engine", "progress"),
                {
                    "ids": [attempt.claim.id],
                    "attempts": [attempt.claim.attempt],
                    "fractions": [None if fraction is None else min(max(fraction, 0.0), 1.0)],
                    "notes": [note.replace("\x00", "�")[:200]],
                },
            )
        if resume is not UNCHANGED:
            cursor.execute(
                statements.read("missions.engine", "resume"),
                {
                    "ids": [attempt.claim.id],
                    "attempts": [attempt.claim.attempt],
                    "resumes": [values.encode(resume)],
                },
            )


def _acceptable_resume(value: Any, redactor: Redactor) -> Any:
    """The value to resume from, redacted. Invalid if it is not acceptable, or too large before or after that."""
    try:
        values.check(value, max_bytes=RESUME_BYTES)
        redacted = redactor.value(value)
        values.check(redacted, max_bytes=RESUME_BYTES)
    except values.Unacceptable as fault:
        raise errors.Invalid(
            f"The value to resume from is not accepted: {fault}.",
            hint="Send a position, and keep large data elsewhere.",
            pointer="/resume",
        ) from None
    return redacted


def complete(
    *, token: str, result: Any = None, added: Sequence[Mapping[str, Any]] = (), verified: int | None = None
) -> str:
    """Settle an attempt as succeeded. Returns the sortie's state: succeeded, waiting for the next try, or failed.

    If the plan has a `verify`, `verified` is that command's exit code, and only 0 counts as success. A repeated call
    returns the same as the first; Conflict if its result differs. StaleLease if the lease is lost; Invalid if the
    result is not JSON or is too large; PlanError if the added sorties are not valid.
    """
    attempt = attempt_auth.authenticate_to_end(token, "succeeded")
    try:
        values.check(result, max_bytes=settings.FLEET_RESULT_BYTES)
    except values.Unacceptable as fault:
        raise errors.Invalid(
            f"The result is not accepted: {fault}.", hint="Pass large data as files.", pointer="/result"
        ) from None
    redactor = _redactor(attempt, token)
    result, added = redactor.value(result), redactor.value(list(added))
    if attempt.repeated_state is not None:
        _require_same_result(attempt.claim, result)
        return attempt.repeated_state
    if not all(isinstance(item, Mapping) for item in added):
        raise errors.Invalid(
            "Each sortie to add must be a JSON object.", hint="Use the format of FLEET_SORTIES (docs/drivers.md)."
        )
    evidence = Evidence(finished=True, ok=True, result=result, added=tuple(dict(item) for item in added))
    if attempt.spec.verify is not None and verified != 0:
        why = "no exit code was reported (`verified`)" if verified is None else f"it ended with exit code {verified}"
        evidence = Evidence(
            finished=True,
            ok=False,
            error=f"The work succeeded, but `verify` failed: {why}.",
            exit_code=verified,
        )
    specs = added_sorties.check(claim=attempt.claim, items=evidence.added) if evidence.added else ()
    return _settle(attempt, verdict.judge(claim=attempt.claim, spec=attempt.spec, evidence=evidence, added=specs))


def _require_same_result(claim: Claim, result: Any) -> None:
    """Conflict if this attempt was accepted with another result. Postgres compares: it normalises JSON numbers."""
    accepted = Attempt.objects.filter(sortie=claim.id, number=claim.attempt)
    same = accepted.filter(result=RawSQL("%s::jsonb", [values.encode(result)], JSONField()))
    if not same.exists():
        raise errors.Conflict(
            f"{claim.key} has already succeeded with another result, which is kept.",
            hint="Send nothing more for this attempt; it has ended.",
        )


def fail(*, token: str, error: str, retry: bool = True) -> str:
    """Settle an attempt as failed. Returns the sortie's state: waiting for the next try, or failed.

    It is retried while tries are left, unless `retry` is false. Errors as for `complete`.
    """
    attempt = attempt_auth.authenticate_to_end(token, "failed")
    if attempt.repeated_state is not None:
        return attempt.repeated_state
    error = _redactor(attempt, token).text(error) or "The work failed without an error message."
    return _settle(attempt, verdict.failed(claim=attempt.claim, spec=attempt.spec, error=error, permanent=not retry))


def give_back(*, token: str, why: str = "its agent handed it back") -> None:
    """Return an attempt's sortie to the queue; this costs no try."""
    attempt = attempt_auth.authenticate_to_end(token)
    with transaction.atomic(), connection.cursor() as cursor:
        consequences = settle_and_claim.give_back(
            cursor.cursor, attempts=[(attempt.claim.id, attempt.claim.attempt)], why=why.replace("\x00", "�")[:500]
        )
        _audit("give_back", attempt.claim.id, attempt.claim.attempt)
    _follow_up(consequences)


def leave(*, agent: UUID) -> None:
    """End an external agent at its own request; the sorties that it holds return to the queue at once."""
    _end(_heartbeat(agent), why="its agent left", reason="It left.", audit_kind="agent.leave")


def _redactor(attempt: AuthenticatedAttempt, token: str) -> Redactor:
    agent_type = Sortie.objects.values_list("agent_type", flat=True).get(id=attempt.claim.id)
    return preparation.redactor_of_external(claim=attempt.claim, spec=attempt.spec, agent_type=agent_type, token=token)


def _settle(attempt: AuthenticatedAttempt, settlement: Settlement) -> str:
    row = Agent.objects.get(id=attempt.agent)
    with transaction.atomic(), connection.cursor() as cursor:
        consequences = settle_and_claim.settle_and_claim(cursor.cursor, by=_party(row), settlements=[settlement])
        Agent.objects.filter(id=attempt.agent).update(flown=F("flown") + len(consequences.accepted))
        if attempt.claim.id in consequences.accepted:
            _audit("complete" if settlement.outcome == "succeeded" else "fail", attempt.claim.id, attempt.claim.attempt)
    if attempt.claim.id not in consequences.accepted:
        raise StaleLease(f"The lease on {attempt.claim.key} is lost.", hint="Stop the work and claim again.")
    _follow_up(consequences)
    return str(Sortie.objects.values_list("state", flat=True).get(id=attempt.claim.id))


def _audit(verb: str, sortie: UUID, attempt: int, **more: str) -> None:
    audit.record(kind=f"sortie.{verb}", subject=ids.encode(ids.SORTIE, sortie), data={"attempt": attempt, **more})


def _follow_up(consequences: Consequences) -> None:
    transaction.on_commit(lambda: hints.send(consequences.freed, consequences.queued_sorties))
    if consequences.missions:
        transitions.complete(missions=list(consequences.missions))


def _heartbeat(agent: UUID, *, claimed: bool = False) -> Agent:
    """Record that the agent is alive; Conflict if it has ended."""
    flying = Sortie.objects.filter(state="running", agent=agent).count()
    with connection.cursor() as cursor:
        alive = agents.heartbeat(
            cursor.cursor.connection, agent=agent, flying=flying, claimed_s_ago=0.0 if claimed else None
        )
    if not alive:
        raise agents.NoLonger(f"{ids.encode(ids.AGENT, agent)} has ended or never existed.", hint="Register again.")
    return Agent.objects.get(id=agent)


def _heartbeat_and_obey(agent: UUID) -> Agent:
    """Record that the agent is alive, and carry out its order, since no node does so for an external agent.

    An agent ordered to drain ends once it holds no sortie. Any other order ends it now and returns its sorties to the
    queue. Conflict if it has ended.
    """
    row = _heartbeat(agent)
    holds = row.order and Sortie.objects.filter(state="running", agent=row.id).exists()
    if not row.order or (row.order == Agent.Order.DRAIN and holds):
        return row
    _end(row, why="its agent was ordered to end", reason=row.reason or f"It was ordered to {row.order}.")
    raise agents.NoLonger(f"{row.ref} has ended: {row.reason}", hint="Stop its work. To continue, register again.")


def _end(row: Agent, *, why: str, reason: str, audit_kind: str = "") -> None:
    """End the agent and return the sorties that it holds to the queue.

    `why` is recorded with the sorties, `reason` with the agent. `audit_kind` is empty if the order was audited already.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        if audit_kind:
            audit.record(kind=audit_kind, subject=row.ref)
        attempts = list(Sortie.objects.filter(state="running", agent=row.id).values_list("id", "attempt"))
        consequences = settle_and_claim.give_back(cursor.cursor, attempts=attempts, why=why)
        agents.end(agents=[row.id], state=Agent.State.TERMINATED, reason=reason)
    _follow_up(consequences)


def _room(agent: UUID) -> int:
    """How many more sorties the agent may hold; Conflict if none. Locks its row, so that claims run one at a time."""
    row = Agent.objects.select_for_update().get(id=agent)
    count = Sortie.objects.filter(state="running", agent=agent).count()
    if count >= row.concurrency:
        raise errors.Conflict(
            f"{row.ref} holds {count} {'sortie' if count == 1 else 'sorties'}, which is its concurrency.",
            hint="Settle one first, or register with a larger `concurrency`.",
        )
    return row.concurrency - count


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
