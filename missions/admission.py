"""From ready to queued: at once, or where limits leave room (of a concurrency key, a mission, an agent type).

What is queued or running holds a place under each limit that it has. One control loop at a time gives places away, under
an advisory lock, so that two never both see the same one free.

A type's limit may change while missions run: what is queued beyond it goes back to ready (what runs is left to run), and
what is pending is told anew whether it must be admitted (`regate`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from uuid import UUID

from django.db import connection, transaction

from agents.models import AgentType
from fleet import statements

PAGE = 1_000
LOCK = 0xAD317  # of Postgres's advisory locks


def admit() -> Counter[str]:
    """Queue what is ready and may start. Returns what became queued, by type."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions", "postpone"))
        cursor.execute(statements.read("missions", "admit"), {"limit": PAGE})
        queued = Counter(agent_type for (agent_type,) in cursor.fetchall())
    return queued + _admit_limited()


def _admit_limited() -> Counter[str]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        if not cursor.fetchone()[0]:
            return Counter()
        cursor.execute(statements.read("missions", "over_limit"))
        cursor.execute(statements.read("missions", "limited"), {"limit": PAGE})
        chosen = choose(cursor.fetchall())
        if not chosen:
            return Counter()
        cursor.execute(statements.read("missions", "admit_these"), {"ids": chosen})
        return Counter(agent_type for (agent_type,) in cursor.fetchall())


def regate() -> int:
    """Have pending sorties be admitted where they are under a limit now, and no others; returns how many changed."""
    changed = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(statements.read("missions", "regate"), {"limit": PAGE})
            page = int(cursor.rowcount)
            changed += page
            if page < PAGE:
                return changed


class Limits:
    """The limits of agent types as they stood at the last look, which is what tells that one has changed."""

    def __init__(self) -> None:
        self._seen: dict[str, int] | None = None

    def hold(self) -> None:
        """Regate where a limit has changed since the last look; at the first look too."""
        now = dict(AgentType.objects.values_list("name", "at_once"))
        if now != self._seen:
            regate()
            self._seen = now


def choose(rows: list[tuple[UUID, str, UUID, str | None, int | None, int | None, int | None]]) -> list[UUID]:
    """Those that fit, the most urgent first: each takes one place under its key, its mission and its type."""
    room: dict[tuple[str, Hashable], int] = {}
    chosen = []
    for sortie, agent_type, mission, key, of_key, of_mission, of_type in rows:
        limits: list[tuple[str, Hashable]] = []
        for name, whose, left in (
            ("key", key, of_key),
            ("mission", mission, of_mission),
            ("type", agent_type, of_type),
        ):
            if left is not None:
                limits.append((name, whose))
                room.setdefault((name, whose), left)
        if all(room[limit] > 0 for limit in limits):
            for limit in limits:
                room[limit] -= 1
            chosen.append(sortie)
    return chosen
