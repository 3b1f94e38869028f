"""An engine in the test's own process, and what tests say to it. Real Postgres, the scripted driver, no Celery worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import yaml

from agents import operations as agents
from fleet import ids
from fleet.celery import app
from missions import operations, plan
from missions.control import admission, duties
from missions.engine.preparation import TypeSettings
from missions.engine.runtime import Engine
from missions.hints import Hinter
from missions.models import Mission, Sortie
from missions.operations import transitions
from missions.queries import surroundings


def launch(
    sorties: Mapping[str, Any], *, params: Mapping[str, Any] | None = None, folder: str = "", **more: Any
) -> Mission:
    """Launch a plan given as Python data, as the operator. `driver: scripted` where a sortie says nothing else."""
    text = yaml.safe_dump(
        {"mission": "A test", "sorties": {k: scripted(v) for k, v in sorties.items()}, **more}, sort_keys=False
    )
    read = plan.load(text=text, surroundings=surroundings.current())
    return operations.launch(
        plan=read, text=text, params=params or {}, folder=folder, by=None, executes=True, operator=True
    )


def scripted(sortie: Mapping[str, Any]) -> dict[str, Any]:
    done = {"agent": "backend", **sortie}
    if not done.keys() & {"run", "call", "prompt", "driver"}:
        done["driver"] = "scripted"
    return done


def engine(agent_type: str = "backend", *, slots: int = 2) -> Engine:
    """A started engine with a registered agent. Stop it."""
    agent = ids.new()
    agents.register(agent=agent, agent_type=agent_type, node="test", pid=1, start_time=0.0)
    made = Engine(agent=agent, type_settings=TypeSettings(agent_type=agent_type), slots=slots, hinter=Hinter(app))
    made.start()
    return made


def beat() -> None:
    """The control loop's duties once, without hints."""
    duties.expire()
    duties.rescue()
    duties.sweep()
    duties.wake()
    admission.admit()
    duties.recount()
    transitions.complete()


def until(true: Callable[[], bool], *, within_s: float = 60) -> None:
    """Wait until it is true; fail the test if it does not become so in time."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not true within {within_s} s"
        time.sleep(0.01)


def states(mission: UUID) -> dict[str, str]:
    return dict(Sortie.objects.filter(mission=mission).values_list("key", "state"))


def state(mission: UUID) -> str:
    return Mission.objects.get(id=mission).state


def run_to_end(engine: Engine, mission: Mission, *, within_s: float = 60) -> str:
    """Fly, with the control loop's duties between, until the mission has ended; the state that it ended in."""

    def ended() -> bool:
        engine.fly()
        beat()
        return Mission.objects.get(id=mission.id).finished_at is not None

    until(ended, within_s=within_s)
    return state(mission.id)
