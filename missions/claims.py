"""What an agent gets when it claims: a running attempt of a sortie, and the token that proves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from fleet import ids
from fleet.postgres import statements
from fleet.postgres.hot_path import Cursor


@dataclass(slots=True, kw_only=True, eq=False)
class Claim:
    """One attempt that this process holds under a lease. `attempt` is the fencing token.

    `lease_end` is the end of the lease as it was claimed, on this process's monotonic clock (fleet/lease.py): by then
    everything of the attempt is gone unless the lease was renewed.
    """

    id: UUID
    mission: UUID
    key: str
    attempt: int
    tries: int
    max_tries: int
    spec: Mapping[str, Any]
    lease_end: float = field(default=0.0)
    marker: str = field(init=False)  # `srt_…/3`: the attempt's name in its environment, in logs and to users

    def __post_init__(self) -> None:
        self.marker = f"{ids.encode(ids.SORTIE, self.id)}/{self.attempt}"

    def log_fields(self) -> dict[str, str | int]:
        """The fields that log lines about this attempt carry."""
        mission, sortie = ids.encode(ids.MISSION, self.mission), ids.encode(ids.SORTIE, self.id)
        return {"mission": mission, "sortie": sortie, "attempt": self.attempt}


@dataclass(frozen=True, slots=True)
class Renewal:
    """What the database said of the leases that were renewed."""

    held: frozenset[tuple[UUID, int]]
    cancelled: frozenset[tuple[UUID, int]]


def renew(cursor: Cursor, *, held: Sequence[tuple[UUID, int]], lease_s: float) -> Renewal:
    """Extend the leases of these attempts, all in one statement; those absent from the answer are lost."""
    cursor.execute(
        statements.read("missions.engine", "renew"),
        {"ids": [sortie for sortie, _ in held], "attempts": [attempt for _, attempt in held], "lease": lease_s},
    )
    rows = cursor.fetchall()
    return Renewal(
        held=frozenset((sortie, attempt) for sortie, attempt, _ in rows),
        cancelled=frozenset((sortie, attempt) for sortie, attempt, cancel in rows if cancel),
    )


def parse_marker(marker: str) -> tuple[UUID, int]:
    """The sortie and the attempt number that a marker names."""
    sortie, _, attempt = marker.partition("/")
    return ids.decode(ids.SORTIE, sortie), int(attempt)
