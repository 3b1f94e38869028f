"""The engine inside a Celery worker: it starts with the worker's pool and stops before it.

A worker flies sorties if FLEET_AGENT_TYPE names its type; FLEET_AGENT names the row that its node made for it.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Any
from uuid import UUID

import psutil
from celery import Celery, bootsteps, signals
from django.conf import settings

from agents import operations as agents
from agents.drivers import reaper, sandbox
from agents.models import Agent, AgentType
from fleet import errors, ids
from missions import flight
from missions.engine import Engine, kit_of
from missions.hints import Hinter

log = logging.getLogger("fleet.worker")

_engine: Engine | None = None


def engine() -> Engine:
    """The engine of this process; Unavailable where the process is not an agent."""
    if _engine is None:
        raise errors.Unavailable(
            "This Celery worker is not an agent.", hint="Start agents with `manage.py fleet_node`."
        )
    return _engine


class EngineStep(bootsteps.StartStopStep):
    """Celery's boot step: https://docs.celeryq.dev/en/stable/userguide/extending.html#blueprints"""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        self.agent_type = os.environ.get("FLEET_AGENT_TYPE", "")
        super().__init__(parent, **options)

    def include_if(self, parent: Any) -> bool:
        return bool(self.agent_type)

    def start(self, parent: Any) -> None:
        global _engine
        sandbox.harden_worker()
        shut_off, why = sandbox.available()
        (log.info if shut_off else log.warning)(why)
        reaper.reap_strangers(fleet=flight.home_id())
        named = os.environ.get("FLEET_AGENT", "")
        agent = UUID(named) if named else ids.new()
        process = psutil.Process()
        agents.register(
            agent=agent,
            agent_type=self.agent_type,
            node=settings.FLEET_NODE or socket.gethostname(),
            pid=process.pid,
            start_time=process.create_time(),
        )
        row = AgentType.objects.filter(name=self.agent_type).values("name", "prompt_argv", "env_allow").get()
        hinter = Hinter(parent.app)
        hinter.start()
        _engine = Engine(agent=agent, kit=kit_of(row), slots=parent.concurrency, hinter=hinter)
        _engine.given_up = parent.stop  # type: ignore[method-assign]
        _engine.start()
        log.info(
            "%s flies sorties of type %s in %d slots", ids.encode(ids.AGENT, agent), self.agent_type, parent.concurrency
        )

    def stop(self, parent: Any) -> None:
        if _engine is None:
            return
        _engine.stop(within_s=settings.FLEET_DRAIN_S)
        _engine.hinter.stop()
        agents.end(agents=[_engine.agent], state=Agent.State.TERMINATED, reason="It was asked to end.")

    terminate = stop


@signals.worker_shutting_down.connect
def _drain(**kwargs: Any) -> None:
    if _engine is not None:
        _engine.drain()


def install(app: Celery) -> None:
    app.steps["worker"].add(EngineStep)
