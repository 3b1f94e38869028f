"""What each agent of a node uses: measured by the node every few seconds, kept finely for hours and coarsely for days.

    fine     every FLEET_SAMPLE_S, for FLEET_SAMPLES_FINE_H
    coarse   means of ten minutes, for FLEET_SAMPLES_DAYS

Thinning takes the oldest ten minutes that are due at a time: its cost is that of the rows that it takes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from agents import usage
from agents.models import Sample
from fleet import processes
from fleet.postgres import locks, statements
from fleet.postgres.locks import Lock

COARSE_S = 600
PAGE = 5_000  # coarse samples that are removed at once


class Sampler:
    """Remembers what each agent had used at the last look, so that the next one tells what it used since."""

    def __init__(self) -> None:
        self._last: dict[UUID, tuple[float, float]] = {}  # seconds since boot, processor seconds

    def look(self, agents: Mapping[UUID, int]) -> list[Sample]:
        """A sample, not stored, of each agent that still runs; `agents` maps them to their pids."""
        made = []
        seen = {}
        for agent, pid in agents.items():
            began, use = processes.started(pid), usage.of(pid)
            if began is None or not use.processes:
                continue
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            since, before_s = self._last.get(agent, (began, 0.0))
            seen[agent] = (now, use.cpu_s)
            passed_s = max(now - since, 0.01)
            made.append(
                Sample(
                    agent_id=agent,
                    step_s=min(max(round(passed_s), 1), COARSE_S - 1),
                    cpu=max(0.0, use.cpu_s - before_s) / passed_s,
                    memory_bytes=use.memory_bytes,
                    processes=use.processes,
                )
            )
        self._last = seen
        return made


def thin(*, now: datetime) -> int:
    """Make means of the oldest ten minutes of fine samples that are due, and remove coarse ones that are past their
    time, at most a page. How many rows it took; 0 where nothing is due, or another node is at it."""
    with transaction.atomic(), connection.cursor() as cursor:
        if not locks.try_lock(Lock.THINNING):
            return 0
        cursor.execute(statements.read("agents", "thin_samples"), {"before": _fine_until(now), "step_s": COARSE_S})
        (thinned,) = cursor.fetchone()
        cursor.execute(
            statements.read("agents", "drop_samples"),
            {"before": _coarse_until(now), "step_s": COARSE_S, "limit": PAGE},
        )
        return int(thinned + cursor.rowcount)


def due(*, now: datetime) -> int:
    """How many rows `thin` would take, called until nothing is due."""
    fine = Sample.objects.filter(step_s__lt=COARSE_S, at__lt=_fine_until(now)).count()
    return fine + Sample.objects.filter(step_s__gte=COARSE_S, at__lt=_coarse_until(now)).count()


def _fine_until(now: datetime) -> datetime:
    """The beginning of the ten minutes in which the fine history begins: only whole ones are made means of."""
    first = (now - timedelta(hours=settings.FLEET_SAMPLES_FINE_H)).timestamp()
    return datetime.fromtimestamp(first - first % COARSE_S, tz=now.tzinfo)


def _coarse_until(now: datetime) -> datetime:
    return now - timedelta(days=settings.FLEET_SAMPLES_DAYS)
