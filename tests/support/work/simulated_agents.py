"""Agents without drivers, whose claims and settlements a test decides step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from agents import operations
from fleet import ids
from fleet.celery import app
from missions.claims import Claim
from missions.engine.attempts.preparation import TypeSettings
from missions.engine.process.runtime import Engine
from missions.engine.settlement.settling import Settlement
from missions.hints import HintPublisher


@dataclass
class SimulatedAgent:
    """An agent without drivers: its committer, its claims, and whether each of its settlements was accepted."""

    id: UUID = field(default_factory=ids.new)
    active_claims: list[Claim] = field(default_factory=list)
    acceptance: dict[tuple[UUID, int], bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        operations.register(agent=self.id, agent_type="backend", node="test", pid=1, start_time=0.0)
        self.committer = Engine(
            agent=self.id, type_settings=TypeSettings(agent_type="backend"), slots=1, hint_publisher=HintPublisher(app)
        ).committer
        self.committer.on_settled = self._settled
        self.committer.start()

    def _settled(self, settlement: Settlement, accepted: bool) -> None:
        self.acceptance[settlement.id, settlement.attempt] = accepted

    def end(self) -> None:
        self.committer.stop()
        self.committer.join()
