"""The claim, renew and settle code of release 0.1, as its committer and its lease renewer run it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Claim:
    id: UUID
    mission: UUID
    key: str
    attempt: int
    spec: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Settlement:
    id: UUID
    attempt: int
    state: str
    outcome: str
    charge: int = 0
    delay_s: float = 0.0
    waits_on: str = "time"
    waits_for: str = ""
    blocked_by: UUID | None = None
    result: str | None = None
    error: str = ""
    exit_code: int | None = None
    cpu_s: float | None = None
    max_rss_bytes: int | None = None

    def row(self) -> dict[str, Any]:
        return {**vars(self), "id": str(self.id), "blocked_by": str(self.blocked_by) if self.blocked_by else None}


@dataclass
class Agent:
    """One agent of an agent type, on a connection of its own."""

    connection: psycopg.Connection[Any]
    agent_type: str
    lease_s: float = 30
    id: UUID = field(default_factory=uuid.uuid4)

    def register(self) -> None:
        self._execute(
            "register",
            {"agent": self.id, "type": self.agent_type, "node": "old", "pid": 1, "start_time": 0.0, "concurrency": 1},
        )

    def heartbeat(self, *, running: int) -> bool:
        """False if the agent was given up."""
        rows = self._execute(
            "heartbeat", {"agent": self.id, "running": running, "settled": None, "claimed_s_ago": None}
        )
        return bool(rows)

    def settle_and_claim(
        self, *, settlements: Sequence[Settlement] = (), want: int = 0
    ) -> tuple[list[Claim], set[UUID]]:
        """Settle and claim in one statement; returns the claims, and the sorties whose settlements were accepted."""
        rows = self._execute(
            "settle_and_claim",
            {
                "settlements": json.dumps([settlement.row() for settlement in settlements]),
                "agent": self.id,
                "type": self.agent_type,
                "lease": self.lease_s,
                "external": False,
                "want": want,
            },
        )
        claims, accepted = [], set()
        for kind, sortie, mission, _, _, _, key, attempt, _, _, spec in rows:
            if kind == "claimed":
                claims.append(Claim(sortie, mission, key, attempt, spec))
            elif kind == "settled":
                accepted.add(sortie)
        return claims, accepted

    def renew(self, claims: Sequence[Claim]) -> set[tuple[UUID, int]]:
        """Renew leases; returns those that were renewed."""
        rows = self._execute(
            "renew",
            {
                "ids": [claim.id for claim in claims],
                "attempts": [claim.attempt for claim in claims],
                "lease": self.lease_s,
            },
        )
        return {(sortie, attempt) for sortie, attempt, _ in rows}

    def _execute(self, name: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        text = (HERE / f"{name}.sql").read_text(encoding="utf-8")
        return self.connection.execute(text, parameters).fetchall()
