"""Settle outcomes and claim work, nearly always in one statement.

The committer of an agent process and external agents both use it. The statement (`sql/settle_and_claim.sql`) settles,
frees the dependents, gives the agent the work that it freed, and claims the rest from the queue.
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
from missions.engine import insertion, settling
from missions.engine.settling import Consequences, Settlement


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """On whose behalf: an agent, its type, and for how many seconds its claims hold without being renewed."""

    agent: UUID
    agent_type: str
    lease_s: float


def is_plain(settlement: Settlement) -> bool:
    """Whether the one statement does all for it: it adds nothing, and nobody can be skipped because of it."""
    return settlement.state == "succeeded" and not settlement.added


def settle_and_claim(
    cursor: Cursor, *, by: Party, settlements: Sequence[Settlement] = (), want: int = 0, one_by_one: bool = False
) -> Consequences:
    """Accept the settlements whose attempt is the running one, and claim up to `want` sorties, the most urgent first.

    Runs in the caller's transaction; where all settlements are plain, it is one statement and needs none. A settlement
    that is not accepted changes nothing and is absent from `accepted`.

    Where Postgres cannot store one of them (a NUL in its JSON, say; psycopg's DataError, or ValueError), roll back
    and call again with `one_by_one`: that one fails alone.
    """
    consequences = Consequences()
    if all(map(is_plain, settlements)) and not one_by_one:
        _send(cursor, by, settlements, want, consequences)
        return consequences
    if one_by_one:
        for settlement in settlements:
            _settle_apart(cursor, by, settlement, consequences)
    else:
        _settle(cursor, by, settlements, consequences)
    if want:
        _send(cursor, by, (), want, consequences)
    return consequences


def give_back(cursor: Cursor, *, attempts: Sequence[tuple[UUID, int]], why: str) -> Consequences:
    """Queue attempts again whose drivers never started or were stopped by a drain; costs no try. Those that somebody
    wants cancelled end instead. In the caller's transaction."""
    consequences = Consequences()
    cursor.execute(
        statements.read("missions.engine", "give_back"),
        {"ids": [sortie for sortie, _ in attempts], "attempts": [attempt for _, attempt in attempts], "why": why},
    )
    cancelled = consequences.take(cursor.fetchall())
    if cancelled:
        settling.free(cursor, ended=cancelled, consequences=consequences)
        settling.skip(cursor, bad=cancelled, consequences=consequences)
    return consequences


def _settle_apart(cursor: Cursor, by: Party, settlement: Settlement, consequences: Consequences) -> None:
    """Behind a savepoint; what cannot be stored fails alone."""
    try:
        with cursor.connection.transaction():
            _settle(cursor, by, [settlement], consequences)
    except (psycopg.DataError, psycopg.IntegrityError, ValueError) as fault:
        _settle(cursor, by, [settling.unstorable(settlement, fault)], consequences)


def _settle(cursor: Cursor, by: Party, settlements: Sequence[Settlement], consequences: Consequences) -> None:
    bad: list[UUID] = []
    for settlement in settlements:
        if settlement.added:
            queued, hopeless = insertion.add(
                cursor, parent=settlement.id, attempt=settlement.attempt, specs=settlement.added
            )
            consequences.freed += queued
            bad += hopeless
    bad += _send(cursor, by, settlements, 0, consequences)
    if bad:
        settling.skip(cursor, bad=bad, consequences=consequences)


def _send(
    cursor: Cursor, by: Party, settlements: Sequence[Settlement], want: int, consequences: Consequences
) -> list[UUID]:
    """The statement itself. Notes what follows; gives back those that ended badly."""
    requested_at = time.monotonic()
    text, names = statements.read_raw("missions.engine", "settle_and_claim")
    given = {
        "said": json.dumps([_as_row(settlement) for settlement in settlements]),
        "agent": by.agent,
        "type": by.agent_type,
        "lease": by.lease_s,
        "want": want,
    }
    raw = psycopg.RawCursor(cursor.connection)
    raw.execute(text, [given[name] for name in names])
    lease_end = lease.end(requested_at=requested_at, lease_s=by.lease_s)
    changes = []
    for what, sortie, mission, agent_type, state, bad, key, attempt, tries, max_tries, spec in raw.fetchall():
        if what != "claimed":
            changes.append((what == "settled", sortie, mission, agent_type, state, bad))
            continue
        consequences.claimed.append(
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
    return consequences.take(changes)


def _as_row(settlement: Settlement) -> dict[str, object]:
    return {
        "id": str(settlement.id),
        "attempt": settlement.attempt,
        "state": settlement.state,
        "outcome": settlement.outcome,
        "charge": settlement.charge,
        "delay_s": settlement.delay_s,
        "waits_for": settlement.waits_for,
        "result": settlement.result,
        "error": settlement.error,
        "exit_code": settlement.exit_code,
        "cpu_s": settlement.cpu_s,
        "max_rss_bytes": settlement.max_rss_bytes,
    }
