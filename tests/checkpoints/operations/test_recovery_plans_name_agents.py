"""A recovery plan says which agents its sorties need: those to spawn, and those of types that are disabled."""

from __future__ import annotations

import pytest

from agents.models import AgentType
from checkpoints import operations
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_agents_are_to_be_spawned_for_types_without_any() -> None:
    mission = fleet.launch({"build": {"agent": "backend"}, "report": {"agent": "documentation", "needs": ["build"]}})
    plan = operations.recovery_plan(checkpoint=operations.capture(missions=[mission.id]))
    assert plan.agents_to_spawn == ("backend", "documentation")
    assert "disabled_agent_type" not in [risk.kind for risk in plan.risks]


def test_sorties_of_disabled_types_are_a_risk_and_need_no_agent_to_spawn() -> None:
    mission = fleet.launch({"build": {"agent": "backend"}, "report": {"agent": "documentation", "needs": ["build"]}})
    checkpoint = operations.capture(missions=[mission.id])
    AgentType.objects.filter(name="documentation").update(enabled=False)
    plan = operations.recovery_plan(checkpoint=checkpoint)
    assert plan.agents_to_spawn == ("backend",)
    (risk,) = [risk for risk in plan.risks if risk.kind == "disabled_agent_type"]
    assert risk.message == "Sorties of disabled agent types would wait: documentation."
