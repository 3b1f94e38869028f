"""Samples what each agent of a node uses. Samples are kept fine for hours, then coarse for days.

    fine     every FLEET_SAMPLE_S, for FLEET_SAMPLES_FINE_H
    coarse   means of ten minutes, for FLEET_SAMPLES_DAYS

Thinning replaces the oldest ten minutes that are due, so its cost does not depend on the length of the history.
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
from fleet.host import processes
from fleet.postgres import locks, statements
from fleet.postgres.locks import Lock

COARSE_S = 600
PAGE = 5_000  # coarse samples that are deleted at once


class Sampler:
    """Measures agents. It keeps the last measurement of each, to compute what the agent has used since."""

    def __init__(self) -> None:
        self._last: dict[UUID, tuple[float, float]] = {}  # time since boot and CPU time, in seconds

    def sample(self, agents: Mapping[UUID, int]) -> list[Sample]:
        """Return an unsaved sample of each agent that still runs. `agents` maps agents to pids."""
        samples = []
        measured = {}
        for agent, pid in agents.items():
            start_time, measurement = processes.start_time_of(pid), usage.measure(pid)
            if start_time is None or not measurement.processes:
                continue
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            measured_at, cpu_before_s = self._last.get(agent, (start_time, 0.0))
            measured[agent] = (now, measurement.cpu_s)
            elapsed_s = max(now - measured_at, 0.01)
            samples.append(
                Sample(
                    agent_id=agent,
                    step_s=min(max(round(elapsed_s), 1), COARSE_S - 1),
                    cpu=max(0.0, measurement.cpu_s - cpu_before_s) / elapsed_s,
                    memory_bytes=measurement.memory_bytes,
                    processes=measurement.processes,
                )
            )
        self._last = measured
        return samples


def thin(*, now: datetime) -> int:
    """Replace the oldest ten minutes of due fine samples by means, and delete a page of outdated coarse samples.

    Returns how many rows it removed: 0 if nothing is due, or if another node is doing it.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        if not locks.try_lock(Lock.THINNING):
            return 0
        cursor.execute(statements.read("agents", "thin_samples"), {"before": _fine_until(now), "step_s": COARSE_S})
        (thinned,) = cursor.fetchone()
        cursor.execute(statements.read("agents", "drop_samples"), {"before": _coarse_until(now), "limit": PAGE})
        return int(thinned + cursor.rowcount)


def due(*, now: datetime) -> int:
    """How many rows `thin` would remove if it were called until nothing is due."""
    fine = Sample.objects.filter(step_s__lt=COARSE_S, at__lt=_fine_until(now)).count()
    return fine + Sample.objects.filter(step_s__gte=COARSE_S, at__lt=_coarse_until(now)).count()


def _fine_until(now: datetime) -> datetime:
    """The start of the ten minutes in which the fine history begins: only complete steps are replaced by means."""
    first = (now - timedelta(hours=settings.FLEET_SAMPLES_FINE_H)).timestamp()
    return datetime.fromtimestamp(first - first % COARSE_S, tz=now.tzinfo)


def _coarse_until(now: datetime) -> datetime:
    return now - timedelta(days=settings.FLEET_SAMPLES_DAYS)
