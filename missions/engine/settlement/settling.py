"""The outcome of an attempt, and what follows when sorties end: their dependents are freed or skipped.

Everything here runs inside the caller's transaction. It returns what the caller has to do after the commit: which types
need hints, and which missions may be complete. Agents, rescue and cancel all use it.
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
from missions.workspaces import lanes


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The verdict on one attempt: the sortie's next state, and what is recorded about the attempt."""

    id: UUID
    attempt: int
    state: str  # of the sortie: succeeded, failed, cancelled, or waiting
    outcome: str  # the attempt's state: succeeded, failed, cancelled, or committed
    charge: int = 0  # how many tries it costs
    delay_s: float = 0.0  # if it waits for a retry: how long
    waits_on: str = "time"  # if it waits: missions.models.WaitsOn
    waits_for: str = ""
    blocked_by: UUID | None = None  # if it waits for a merge: the sortie to merge first
    result: str | None = None  # JSON text
    error: str = ""
    exit_code: int | None = None
    cpu_s: float | None = None
    max_rss_bytes: int | None = None
    added: tuple[SortieSpec, ...] = ()
    has_change: bool = False  # it works in a copy of a repository, so its change and its lane are settled too


@dataclass(slots=True)
class Consequences:
    """What has changed, and what is left to do after the commit: send hints, complete missions, execute claims."""

    accepted: set[UUID] = field(default_factory=set)
    queued: Counter[str] = field(default_factory=Counter)  # agent type -> how many sorties became queued
    queued_sorties: dict[str, list[UUID]] = field(default_factory=dict)  # agent type -> the first of these sorties
    missions: set[UUID] = field(default_factory=set)  # missions that may be complete now
    claims: list[Claim] = field(default_factory=list)

    def add(self, other: Consequences) -> None:
        """Add the consequences of another statement of the same transaction."""
        self.accepted |= other.accepted
        self.queued += other.queued
        for agent_type, sorties in other.queued_sorties.items():
            self.queued_sorties.setdefault(agent_type, []).extend(sorties)
        self.missions |= other.missions
        self.claims += other.claims

    def add_rows(self, rows: Iterable[tuple[bool, UUID, UUID, str, str, bool]]) -> list[UUID]:
        """Add the rows that a statement returned; returns the sorties that ended badly.

        Each row is (settled, sortie, mission, agent type, state, ended badly).
        """
        bad_sorties = []
        for settled, sortie, mission, agent_type, state, bad in rows:
            if settled:
                self.accepted.add(sortie)
                if state != "waiting":
                    self.missions.add(mission)
            if state == "queued":
                self.queued[agent_type] += 1
                if self.queued[agent_type] <= hints.MAX_AT_ONCE:
                    self.queued_sorties.setdefault(agent_type, []).append(sortie)
            if bad:
                bad_sorties.append(sortie)
        return bad_sorties


def skip(cursor: Cursor, *, bad: Sequence[UUID], consequences: Consequences) -> None:
    """Skip the dependents of sorties that ended badly, and free those that run `if: always` after the skipped ones."""
    cursor.execute(
        "SELECT id FROM missions_mission"
        " WHERE stop_on_failure AND id = ANY (ARRAY(SELECT mission_id FROM missions_sortie WHERE id = ANY (%(bad)s)))",
        {"bad": list(bad)},
    )
    stopped = [mission for (mission,) in cursor.fetchall()]
    cursor.execute(
        "SELECT string_agg(key, ', ') FROM (SELECT key FROM missions_sortie WHERE id = ANY (%(bad)s) LIMIT 3) AS first",
        {"bad": list(bad)},
    )
    (keys,) = cursor.fetchone() or ("",)
    cursor.execute(
        statements.read("missions.engine.settlement", "skip"),
        {"bad": list(bad), "stopped": stopped, "why": f"skipped because {keys} did not succeed"[:500]},
    )
    skipped = [sortie for (sortie,) in cursor.fetchall()]
    if skipped:
        free(cursor, ended=skipped, consequences=consequences)


def free(cursor: Cursor, *, ended: Sequence[UUID], consequences: Consequences) -> None:
    """Count down the needs of dependents of sorties that ended other than through settle_and_claim.sql."""
    cursor.execute(statements.read("missions.engine.settlement", "free"), {"ended": list(ended)})
    consequences.add_rows(cursor.fetchall())


def settle_changes(cursor: Cursor, *, sorties: Sequence[UUID], consequences: Consequences) -> None:
    """Record that the changes of those sorties that succeeded have landed, and pass on the lanes of all."""
    cursor.execute(statements.read("missions.engine.settlement", "settle_changes"), {"sorties": list(sorties)})
    consequences.add_rows(lanes.grant(cursor, after=sorties))


def unstorable(settlement: Settlement, error: Exception) -> Settlement:
    """The settlement to record for an outcome that Postgres refuses to store: failed, without a retry.

    The next try would return the same value.
    """
    reason = str(error).splitlines()[0].replace("\x00", "")
    return Settlement(
        id=settlement.id,
        attempt=settlement.attempt,
        state="failed",
        outcome="failed",
        charge=1,
        error=f"The result of the sortie cannot be stored: {reason}.",
        exit_code=settlement.exit_code,
        cpu_s=settlement.cpu_s,
        max_rss_bytes=settlement.max_rss_bytes,
    )
