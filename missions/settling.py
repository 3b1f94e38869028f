"""What follows when sorties end: accept outcomes, free or skip what needed them, add the sorties they ask for.

Everything here runs inside the caller's transaction and answers with what the caller does after its commit:
which types to hint, which missions may be complete. One way for agents (committer), rescue, cancel and outside
agents alike.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import psycopg as postgres

from fleet import statements
from missions import insertion
from missions.plan import SortieSpec
from missions.rows import Cursor


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The verdict on one attempt: the sortie's next state, and what is recorded of the attempt."""

    id: UUID
    attempt: int
    state: str  # succeeded, failed, cancelled, or waiting for a retry
    outcome: str  # of the attempt: succeeded, failed or cancelled
    charge: int = 0  # tries that it costs
    delay_s: float = 0.0  # until the retry
    waits_for: str = ""
    result: str | None = None  # JSON text
    error: str = ""
    exit_code: int | None = None
    cpu_s: float | None = None
    max_rss_bytes: int | None = None
    added: tuple[SortieSpec, ...] = ()


@dataclass(slots=True)
class Consequences:
    """What is left to do after the commit."""

    accepted: set[UUID] = field(default_factory=set)
    freed: Counter[str] = field(default_factory=Counter)  # agent type -> sorties that became queued
    missions: set[UUID] = field(default_factory=set)  # those that may be complete now

    def take(self, rows: Iterable[tuple[bool, UUID, UUID, str, str, bool]]) -> list[UUID]:
        """Note the rows that a statement returned; give back those that ended badly."""
        bad = []
        for settled, sortie, mission, agent_type, state, ended_badly in rows:
            if settled:
                self.accepted.add(sortie)
                if state != "waiting":
                    self.missions.add(mission)
            if state == "queued":
                self.freed[agent_type] += 1
            if ended_badly:
                bad.append(sortie)
        return bad


def settle(cursor: Cursor, *, settlements: Sequence[Settlement], one_by_one: bool = False) -> Consequences:
    """Accept the settlements whose attempt is the running one. The others are absent from `accepted`.

    Where Postgres cannot store one of them (a NUL in its JSON, say; psycopg's DataError, or ValueError), roll back
    and call again with `one_by_one`: that row fails alone.
    """
    consequences = Consequences()
    if not one_by_one:
        _settle(cursor, settlements, consequences)
        return consequences
    for settlement in settlements:
        try:
            with cursor.connection.transaction():
                _settle(cursor, [settlement], consequences)
        except (postgres.DataError, postgres.IntegrityError, ValueError) as fault:
            _settle(cursor, [_unstorable(settlement, fault)], consequences)
    return consequences


def _settle(cursor: Cursor, settlements: Sequence[Settlement], consequences: Consequences) -> None:
    bad: list[UUID] = []
    for settlement in settlements:
        if settlement.added:
            queued, hopeless = insertion.add(
                cursor, parent=settlement.id, attempt=settlement.attempt, specs=settlement.added
            )
            consequences.freed += queued
            bad += hopeless
    say(cursor, settlements)
    bad += consequences.take(cursor.fetchall())
    if bad:
        skip(cursor, bad=bad, consequences=consequences)


def is_plain(settlement: Settlement) -> bool:
    """Whether nothing but `say` is needed for it: it adds nothing, and nobody can be skipped because of it."""
    return settlement.state in {"succeeded", "waiting"} and not settlement.added


def say(cursor: Cursor, settlements: Sequence[Settlement]) -> None:
    """Send the one statement that settles; its rows are for `Consequences.take`."""
    cursor.execute(
        statements.read("missions", "settle"),
        {
            "ids": [s.id for s in settlements],
            "attempts": [s.attempt for s in settlements],
            "states": [s.state for s in settlements],
            "outcomes": [s.outcome for s in settlements],
            "charges": [s.charge for s in settlements],
            "delays": [s.delay_s for s in settlements],
            "waits": [s.waits_for for s in settlements],
            "results": [s.result for s in settlements],
            "errors": [s.error for s in settlements],
            "exits": [s.exit_code for s in settlements],
            "cpus": [s.cpu_s for s in settlements],
            "rss": [s.max_rss_bytes for s in settlements],
        },
    )


def skip(cursor: Cursor, *, bad: Sequence[UUID], consequences: Consequences) -> None:
    """Skip what can no longer run because these ended badly, and free what runs `if: always` after the skipped."""
    cursor.execute(
        "SELECT DISTINCT m.id FROM missions_mission m JOIN missions_sortie s ON s.mission_id = m.id"
        " WHERE s.id = ANY (%(bad)s) AND m.stop_on_failure",
        {"bad": list(bad)},
    )
    stopped = [mission for (mission,) in cursor.fetchall()]
    cursor.execute(
        "SELECT string_agg(key, ', ') FROM (SELECT key FROM missions_sortie WHERE id = ANY (%(bad)s) LIMIT 3) AS named",
        {"bad": list(bad)},
    )
    (names,) = cursor.fetchone() or ("",)
    cursor.execute(
        statements.read("missions", "skip"),
        {"bad": list(bad), "stopped": stopped, "why": f"skipped because {names} did not end well"[:500]},
    )
    skipped = [sortie for (sortie,) in cursor.fetchall()]
    if skipped:
        free(cursor, ended=skipped, consequences=consequences)


def free(cursor: Cursor, *, ended: Sequence[UUID], consequences: Consequences) -> None:
    """Count down the dependents of sorties that ended otherwise than by `settle`."""
    cursor.execute(statements.read("missions", "free"), {"ended": list(ended)})
    consequences.take(cursor.fetchall())


def _unstorable(settlement: Settlement, fault: Exception) -> Settlement:
    reason = str(fault).splitlines()[0].replace("\x00", "")
    return Settlement(
        id=settlement.id,
        attempt=settlement.attempt,
        state="failed",
        outcome="failed",
        charge=1,
        error=f"What the sortie returned cannot be stored: {reason}. Return JSON without NUL characters.",
        exit_code=settlement.exit_code,
        cpu_s=settlement.cpu_s,
        max_rss_bytes=settlement.max_rss_bytes,
    )


def as_json(value: object) -> str:
    """Compact JSON text; ValueError for NaN and infinities, which JSON does not have."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
