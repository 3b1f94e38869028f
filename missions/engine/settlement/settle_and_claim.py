"""Settle outcomes and claim work, nearly always in one statement.

The committer of an agent process and the operations of external agents both use it. The statement
(`sql/settle_and_claim.sql`) settles, frees the dependents, gives the agent the work that it freed, and claims the rest
from the queue.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg

from fleet import lease
from fleet.postgres import statements
from fleet.postgres.hot_path import Cursor
from missions.claims import Claim
from missions.engine.settlement import insertion, settling
from missions.engine.settlement.settling import Consequences, Settlement


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """The agent that settles and claims, its type, and the length of its leases.

    An external agent gets no sorties whose work is done and only needs to be merged.
    """

    agent: UUID
    agent_type: str
    lease_s: float
    external: bool = False


def needs_transaction(settlements: Sequence[Settlement], *, one_by_one: bool = False) -> bool:
    """Whether one statement does not suffice for these settlements, so that the caller must begin a transaction."""
    return one_by_one or not all(map(_is_plain, settlements))


def settle_and_claim(
    cursor: Cursor,
    *,
    by: Claimant,
    settlements: Sequence[Settlement] = (),
    max_claims: int = 0,
    one_by_one: bool = False,
) -> Consequences:
    """Accept the settlements whose attempt is the running one, and claim up to `max_claims` sorties, most urgent first.

    Runs in the caller's transaction, or without one if `needs_transaction` is false: then it is one statement. A
    settlement that is not accepted changes nothing and is absent from `accepted`.

    If Postgres cannot store a settlement (psycopg's DataError, or ValueError, for instance because of a NUL in its
    JSON), roll back and call again with `one_by_one`: then only that one fails.
    """
    consequences = Consequences()
    if not needs_transaction(settlements, one_by_one=one_by_one):
        _execute(cursor, by, settlements, max_claims, consequences)
        return consequences
    if one_by_one:
        for settlement in settlements:
            _settle_in_savepoint(cursor, by, settlement, consequences)
    else:
        _settle(cursor, by, settlements, consequences)
    if max_claims:
        _execute(cursor, by, (), max_claims, consequences)
    return consequences


def give_back(cursor: Cursor, *, attempts: Sequence[tuple[UUID, int]], why: str) -> Consequences:
    """Return to the queue attempts whose drivers never started or were stopped by a drain. This costs no try.

    Sorties with a cancel request end as cancelled instead. Runs in the caller's transaction.
    """
    consequences = Consequences()
    cursor.execute(
        statements.read("missions.engine.settlement", "give_back"),
        {"ids": [sortie for sortie, _ in attempts], "attempts": [attempt for _, attempt in attempts], "why": why},
    )
    cancelled = consequences.add_rows(cursor.fetchall())
    if cancelled:
        settling.free(cursor, ended=cancelled, consequences=consequences)
        settling.skip(cursor, bad=cancelled, consequences=consequences)
    return consequences


def _is_plain(settlement: Settlement) -> bool:
    """Whether a settlement adds no sorties, skips no dependent and has no change."""
    return settlement.state == "succeeded" and not settlement.added and not settlement.has_change


def _settle_in_savepoint(cursor: Cursor, by: Claimant, settlement: Settlement, consequences: Consequences) -> None:
    """Settle one attempt; if it cannot be stored, settle it as failed."""
    try:
        with cursor.connection.transaction():
            _settle(cursor, by, [settlement], consequences)
    except (psycopg.DataError, psycopg.IntegrityError, ValueError) as error:
        _settle(cursor, by, [settling.unstorable(settlement, error)], consequences)


def _settle(cursor: Cursor, by: Claimant, settlements: Sequence[Settlement], consequences: Consequences) -> None:
    bad: list[UUID] = []
    for settlement in settlements:
        if settlement.added:
            queued, bad_needs = insertion.add(
                cursor, parent=settlement.id, attempt=settlement.attempt, specs=settlement.added
            )
            consequences.queued += queued
            bad += bad_needs
    bad += _execute(cursor, by, settlements, 0, consequences)
    if bad:
        settling.skip(cursor, bad=bad, consequences=consequences)
    if changed := [settlement.id for settlement in settlements if settlement.has_change]:
        settling.settle_changes(cursor, sorties=changed, consequences=consequences)


def _execute(
    cursor: Cursor, by: Claimant, settlements: Sequence[Settlement], max_claims: int, consequences: Consequences
) -> list[UUID]:
    """Execute the statement and add its consequences; returns the sorties that ended badly."""
    requested_at = time.monotonic()
    text, names = statements.read_raw("missions.engine.settlement", "settle_and_claim")
    parameters = {
        "settlements": json.dumps([_as_row(settlement) for settlement in settlements]),
        "agent": by.agent,
        "type": by.agent_type,
        "lease": by.lease_s,
        "external": by.external,
        "max_claims": max_claims,
    }
    raw = psycopg.RawCursor(cursor.connection)
    raw.execute(text, [parameters[name] for name in names])
    lease_end = lease.end(requested_at=requested_at, lease_s=by.lease_s)
    changes = []
    for kind, sortie, mission, agent_type, state, bad, key, attempt, tries, max_tries, spec in raw.fetchall():
        if kind != "claimed":
            changes.append((kind == "settled", sortie, mission, agent_type, state, bad))
            continue
        consequences.claims.append(
            Claim(
                id=sortie,
                mission=mission,
                key=key,
                attempt=attempt,
                tries=tries,
                max_tries=max_tries,
                spec=json.loads(spec) if isinstance(spec, str) else spec,  # Django's connections leave JSON as text
                lease_end=lease_end,
            )
        )
    return consequences.add_rows(changes)


def _as_row(settlement: Settlement) -> dict[str, object]:
    return {
        "id": str(settlement.id),
        "attempt": settlement.attempt,
        "state": settlement.state,
        "outcome": settlement.outcome,
        "charge": settlement.charge,
        "delay_s": settlement.delay_s,
        "waits_on": settlement.waits_on,
        "blocked_by": str(settlement.blocked_by) if settlement.blocked_by else None,
        "waits_for": settlement.waits_for,
        "result": settlement.result,
        "error": settlement.error,
        "exit_code": settlement.exit_code,
        "cpu_s": settlement.cpu_s,
        "max_rss_bytes": settlement.max_rss_bytes,
    }
