"""Claims: the running attempts that an agent holds, and the renewal of their leases."""

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
    """One attempt that an agent holds under a lease. `attempt` is the fencing token.

    `lease_end` is when the lease ends, as claimed, on the monotonic clock of the process that claimed it
    (fleet/lease.py). Unless the lease is renewed, no process of the attempt runs after that time.
    """

    id: UUID
    mission: UUID
    key: str
    attempt: int
    tries: int
    max_tries: int
    spec: Mapping[str, Any]
    lease_end: float = 0.0
    marker: str = field(init=False)  # `srt_…/3`: the attempt's name in its environment, in logs and to users

    def __post_init__(self) -> None:
        self.marker = f"{ids.encode(ids.SORTIE, self.id)}/{self.attempt}"

    def log_fields(self) -> dict[str, str | int]:
        """The fields that log lines about this attempt carry."""
        mission, sortie = ids.encode(ids.MISSION, self.mission), ids.encode(ids.SORTIE, self.id)
        return {"mission": mission, "sortie": sortie, "attempt": self.attempt}


@dataclass(frozen=True, slots=True)
class Renewal:
    """The result of a renewal: the renewed leases, and those of them whose sorties were cancelled."""

    renewed: frozenset[tuple[UUID, int]]
    cancelled: frozenset[tuple[UUID, int]]


def renew(cursor: Cursor, *, attempts: Sequence[tuple[UUID, int]], lease_s: float) -> Renewal:
    """Renew the leases of these attempts in one statement. Leases absent from the result are lost."""
    cursor.execute(
        statements.read("missions", "renew"),
        {"ids": [sortie for sortie, _ in attempts], "attempts": [attempt for _, attempt in attempts], "lease": lease_s},
    )
    rows = cursor.fetchall()
    return Renewal(
        renewed=frozenset((sortie, attempt) for sortie, attempt, _ in rows),
        cancelled=frozenset((sortie, attempt) for sortie, attempt, cancel_requested in rows if cancel_requested),
    )


def parse_marker(marker: str) -> tuple[UUID, int]:
    """The sortie and the attempt number that a marker contains."""
    sortie, _, attempt = marker.partition("/")
    return ids.decode(ids.SORTIE, sortie), int(attempt)
