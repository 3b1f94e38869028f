"""Records the agents of a node: what they use (sampling.py) and what they print (log_shipping.py).

While Postgres is unavailable, only samples are lost. Output stays in the log files until it can be shipped.
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
THIN_S = 60.0  # each run thins ten minutes of samples, so a node that was down catches up at ten times real time


class NodeRecorder:
    """The recorder of a node, called from its only thread. It never raises errors of Postgres or the disk."""

    def __init__(self) -> None:
        self._sampler = sampling.Sampler()
        self._shipper = log_shipping.Shipper()
        self._shipped_at = self._thinned_at = self._sampled_at = time.monotonic()

    def resume(self, node: Node) -> None:
        """Ship what the agents of an earlier supervisor printed after its death. Call it before the first `begin`."""
        last = Agent.objects.filter(node=node).order_by("type_id", "ordinal", "-id").distinct("type_id", "ordinal")
        try:
            for agent in last:
                path = log_shipping.path(type=agent.type_id, ordinal=agent.ordinal, node=node.name)
                self._shipper.resume(agent=agent.id, path=path)
        except (Error, OSError) as error:
            _warn("output of earlier agents stays in their log files", error)

    def begin(self, *, agent: UUID, path: Path) -> None:
        """Note that an agent is about to be started and will write to this file."""
        self._shipper.begin(agent=agent, path=path)

    def finish(self, *, agent: UUID) -> None:
        """Ship the end of a dead agent's log. Call it before a successor is started."""
        self._shipper.finish(agent=agent)
        self._ship()

    def step(self, agents: Mapping[UUID, int]) -> None:
        """Do what is due. `agents` maps the running agents to their pids."""
        now = time.monotonic()
        if now - self._shipped_at > SHIP_S:
            self._shipped_at = now
            self._ship()
        if now - self._sampled_at >= settings.FLEET_SAMPLE_S:
            self._sampled_at = now
            self._sample(agents)
        if now - self._thinned_at > THIN_S:
            self._thinned_at = now
            self._thin()

    def _ship(self) -> None:
        try:
            self._shipper.ship()
        except (Error, OSError) as error:
            _warn("output of agents stays in their log files", error)

    def _sample(self, agents: Mapping[UUID, int]) -> None:
        try:
            Sample.objects.bulk_create(self._sampler.sample(agents))
        except Error as error:
            _warn("a round of samples is lost", error)

    def _thin(self) -> None:
        try:
            sampling.thin(now=timezone.now())
        except Error as error:
            _warn("samples were not thinned", error)


def _warn(consequence: str, error: Exception) -> None:
    log.warning("%s: %s", consequence, str(error).strip())
    connection.close()
