"""An engine in the test's own process: real Postgres and the scripted driver, but no Celery worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import yaml

from agents import operations as agents
from agents.models import AgentType
from fleet import ids
from fleet.celery import app
from missions import operations, plan
from missions.control import admission, duties
from missions.engine.attempts.preparation import TypeSettings
from missions.engine.process.runtime import Engine
from missions.hints import HintPublisher
from missions.models import Mission, Sortie
from missions.operations import transitions
from missions.queries import plan_context
from tests.support.waiting import until


def launch(
    sorties: Mapping[str, Any], *, params: Mapping[str, Any] | None = None, folder: str = "", **plan_keys: Any
) -> Mission:
    """Launch a plan from Python data, as the operator. Sorties without work use the scripted driver.

    `plan_keys`: further top-level keys of the plan.
    """
    text = yaml.safe_dump(
        {"mission": "A test", "sorties": {k: scripted(v) for k, v in sorties.items()}, **plan_keys}, sort_keys=False
    )
    loaded = plan.load(text=text, context=plan_context.current())
    return operations.launch(
        plan=loaded, text=text, params=params or {}, folder=folder, by=None, can_execute=True, operator=True
    )


def scripted(sortie: Mapping[str, Any]) -> dict[str, Any]:
    """The sortie with an agent type, and with the scripted driver if it has no work."""
    complete = {"agent": "backend", **sortie}
    if not complete.keys() & {"run", "call", "prompt", "driver"}:
        complete["driver"] = "scripted"
    return complete


def engine(agent_type: str = "backend", *, slots: int = 2) -> Engine:
    """A started engine with a registered agent. The caller must stop it."""
    agent = ids.new()
    agents.register(agent=agent, agent_type=agent_type, node="test", pid=1, start_time=0.0)
    started = Engine(
        agent=agent, type_settings=TypeSettings(agent_type=agent_type), slots=slots, hint_publisher=HintPublisher(app)
    )
    started.start()
    return started


def open_to_external_agents(agent_type: str = "backend") -> None:
    """Let external agents register for the type, besides the agents of nodes."""
    AgentType.objects.filter(name=agent_type).update(accepts_external=True)


def beat() -> None:
    """Run the main duties of the control loop once, without hints."""
    duties.expire()
    duties.rescue()
    duties.sweep()
    duties.wake()
    admission.admit()
    duties.recount()
    transitions.complete()


def beat_until(condition: Callable[[], Any]) -> Any:
    """Run the control loop until `condition` returns a true value, and return it."""

    def after_a_beat() -> Any:
        beat()
        return condition()

    return until(after_a_beat)


def states(mission: UUID) -> dict[str, str]:
    return dict(Sortie.objects.filter(mission=mission).values_list("key", "state"))


def state(mission: UUID) -> str:
    return Mission.objects.get(id=mission).state


def run_to_end(engine: Engine, mission: Mission, *, within_s: float = 120) -> str:
    """Run the engine and the control loop in turns until the mission has ended. Returns its final state."""

    def ended() -> bool:
        engine.run_slot()
        beat()
        return Mission.objects.get(id=mission.id).finished_at is not None

    until(ended, within_s=within_s)
    return state(mission.id)


def run_mission(mission: Mission, *, slots: int = 2) -> str:
    """Run a mission to its end in a new engine. Returns its final state."""
    new_engine = engine(slots=slots)
    try:
        return run_to_end(new_engine, mission)
    finally:
        new_engine.stop(within_s=5)
