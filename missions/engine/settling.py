"""What an attempt's outcome is, and what follows when sorties end: free or skip what needed them.

Everything here runs inside the caller's transaction and answers with what the caller does after its commit:
which types to hint, which missions may be complete. One way for agents, rescue and cancel alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from fleet.postgres import statements
from fleet.postgres.hot_path import Cursor
from missions import hints
from missions.claims import Claim
from missions.plan import SortieSpec


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
    named: dict[str, list[UUID]] = field(default_factory=dict)  # the same: which, some of them
    missions: set[UUID] = field(default_factory=set)  # those that may be complete now
    claimed: list[Claim] = field(default_factory=list)

    def add(self, other: Consequences) -> None:
        """Note what follows from something else in the same transaction."""
        self.accepted |= other.accepted
        self.freed += other.freed
        for agent_type, sorties in other.named.items():
            self.named.setdefault(agent_type, []).extend(sorties)
        self.missions |= other.missions
        self.claimed += other.claimed

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
                if self.freed[agent_type] <= hints.MOST:
                    self.named.setdefault(agent_type, []).append(sortie)
            if ended_badly:
                bad.append(sortie)
        return bad


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
        statements.read("missions.engine", "skip"),
        {"bad": list(bad), "stopped": stopped, "why": f"skipped because {names} did not end well"[:500]},
    )
    skipped = [sortie for (sortie,) in cursor.fetchall()]
    if skipped:
        free(cursor, ended=skipped, consequences=consequences)


def free(cursor: Cursor, *, ended: Sequence[UUID], consequences: Consequences) -> None:
    """Count down the dependents of sorties that ended otherwise than by `settle`."""
    cursor.execute(statements.read("missions.engine", "free"), {"ended": list(ended)})
    consequences.take(cursor.fetchall())


def unstorable(settlement: Settlement, fault: Exception) -> Settlement:
    """What is recorded in the place of an outcome that Postgres refuses to store. The next try would return the same, so
    there is none."""
    reason = str(fault).splitlines()[0].replace("\x00", "")
    return Settlement(
        id=settlement.id,
        attempt=settlement.attempt,
        state="failed",
        outcome="failed",
        charge=1,
        error=f"What the sortie returned cannot be stored: {reason}.",
        exit_code=settlement.exit_code,
        cpu_s=settlement.cpu_s,
        max_rss_bytes=settlement.max_rss_bytes,
    )
