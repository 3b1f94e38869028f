"""What `fleet_cleanup` removes besides copies and mirrors of repositories: each kind of old data, counted or removed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from agents.node import log_shipping, sampling
from fleet.access import tokens
from fleet.api import idempotency
from fleet.console import lines
from missions.artifacts import collection
from missions.engine.attempts import scratch
from missions.operations import cleaning


@dataclass(frozen=True, slots=True, kw_only=True)
class OldDataKind:
    """A kind of old data: `key` is its name in JSON, `name` and `detail` are what a person reads."""

    key: str
    name: str
    detail: str = ""
    count: Callable[[], int]
    remove: Callable[[], int]

    def counted(self, number: int) -> str:
        return f"{lines.counted(number, self.name)} {self.detail}".strip()


def kinds(*, now: datetime, days: int, missions: Sequence[UUID]) -> list[OldDataKind]:
    """All kinds; `missions` are those to remove. Rows and files older than `days` are old, unless they have a limit."""
    return [
        OldDataKind(
            key="missions",
            name="finished mission",
            count=lambda: len(missions),
            remove=lambda: cleaning.remove(missions=missions),
        ),
        OldDataKind(
            key="events",
            name="event",
            detail="of agents, nodes and services",
            count=lambda: cleaning.outdated_events(now=now, days=days).count(),
            remove=lambda: cleaning.remove_events(now=now, days=days),
        ),
        _rows("ticks", "tick", "of schedules", cleaning.outdated_ticks(now=now, days=days)),
        OldDataKind(
            key="samples",
            name="resource sample",
            detail="(older ones are replaced by means)",
            count=lambda: sampling.due(now=now),
            remove=lambda: _thin(now),
        ),
        _rows("log_pieces", "log piece", "of ended agents", log_shipping.outdated(now=now, days=days)),
        OldDataKind(
            key="drafts",
            name="incomplete artifact",
            detail="of killed agents",
            count=lambda: collection.sweep(dry_run=True),
            remove=collection.sweep,
        ),
        OldDataKind(
            key="scratch_folders",
            name="scratch folder",
            detail="of killed agents",
            count=lambda: scratch.sweep(dry_run=True),
            remove=scratch.sweep,
        ),
        _rows("sessions", "expired session", "", tokens.outdated_sessions(now=now)),
        _rows("idempotency_keys", "expired idempotency key", "", idempotency.outdated(now=now)),
    ]


def _rows(key: str, name: str, detail: str, rows: QuerySet[Any]) -> OldDataKind:
    return OldDataKind(key=key, name=name, detail=detail, count=rows.count, remove=lambda: rows.delete()[0])


def _thin(now: datetime) -> int:
    """Thin all samples that are due; return how many were. If a node is already thinning, leave the rest to it."""
    thinned = 0
    while batch := sampling.thin(now=now):
        thinned += batch
    return thinned
