"""What a node writes down of its agents as it goes round: what they use (sampling.py) and what they print (logs.py).

A Postgres that is away costs samples only: what is printed stays in the files until it can be written down.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db import Error, connection
from django.utils import timezone

from agents.models import Agent, Node, Sample
from agents.node import log_shipping, sampling

log = logging.getLogger("fleet.recording")

SHIP_S = 0.5
THIN_S = 60.0  # a node that was away catches up ten times as fast as history grows


class Recorder:
    """One of each node, called from its only thread; never raises for what Postgres or the disk refuse."""

    def __init__(self) -> None:
        self._sampler = sampling.Sampler()
        self._shipper = log_shipping.Shipper()
        self._shipped = self._thinned = self._sampled = time.monotonic()

    def resume(self, node: Node) -> None:
        """Ship what the last agents of an earlier supervisor of the node said after its death. Before any is begun."""
        last = Agent.objects.filter(node=node).order_by("type_id", "place", "-id").distinct("type_id", "place")
        try:
            for agent in last:
                path = log_shipping.path(type=agent.type_id, place=agent.place, node=node.name)
                self._shipper.resume(agent=agent.id, path=path)
        except (Error, OSError) as fault:
            _missed("what earlier agents printed stays in their files", fault)

    def begin(self, *, agent: UUID, path: Path) -> None:
        """An agent is about to be started, and to write to that file."""
        self._shipper.begin(agent=agent, path=path)

    def finish(self, *, agent: UUID) -> None:
        """An agent is dead, and no other has been started in its place yet."""
        self._shipper.finish(agent=agent)
        self._ship()

    def step(self, agents: Mapping[UUID, int]) -> None:
        """Do what is due. `agents`: those that run, with their pids."""
        now = time.monotonic()
        if now - self._shipped > SHIP_S:
            self._shipped = now
            self._ship()
        if now - self._sampled >= settings.FLEET_SAMPLE_S:
            self._sampled = now
            self._sample(agents)
        if now - self._thinned > THIN_S:
            self._thinned = now
            self._thin()

    def _ship(self) -> None:
        try:
            self._shipper.ship()
        except (Error, OSError) as fault:
            _missed("what agents printed waits in their files", fault)

    def _sample(self, agents: Mapping[UUID, int]) -> None:
        try:
            Sample.objects.bulk_create(self._sampler.look(agents))
        except Error as fault:
            _missed("a round of samples is lost", fault)

    def _thin(self) -> None:
        try:
            sampling.thin(now=timezone.now())
        except Error as fault:
            _missed("samples were not thinned", fault)


def _missed(what: str, fault: Exception) -> None:
    log.warning("%s: %s", what, str(fault).strip())
    connection.close()
