"""The engine inside a Celery worker: it starts after the worker's pool and stops before it.

A worker is an agent if FLEET_AGENT_TYPE contains its type. FLEET_AGENT contains the id of the row that its node
created.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from contextlib import suppress
from types import FrameType
from typing import Any
from uuid import UUID

from celery import Celery, bootsteps, signals
from celery.worker import state
from django.conf import settings
from django.db import Error, connection

from agents import operations as agents
from agents.confinement import probe
from agents.drivers import reaper
from agents.models import Agent
from fleet import checks, errors, ids
from fleet.console import invocation
from fleet.host import processes
from fleet.postgres import pool
from missions.artifacts import collection
from missions.engine.attempts import scratch
from missions.engine.attempts.preparation import TypeSettings
from missions.engine.process import remote_control
from missions.engine.process.runtime import Engine
from missions.hints import HintPublisher

log = logging.getLogger("fleet.worker")

FOREVER_S = 365 * 86_400.0

_engine: Engine | None = None


def engine() -> Engine:
    """The engine of this process; Unavailable if the process is not an agent."""
    if _engine is None:
        raise errors.Unavailable(
            "This Celery worker is not an agent.", hint=f"Start agents: {invocation.command('fleet_node')}"
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
        pool.share()
        processes.forbid_inspection()
        if not settings.FLEET_SANDBOX:
            log.warning(checks.NO_SANDBOX)
        elif problem := probe.sandbox_problem():
            raise errors.Unavailable(problem, hint="This agent runs nothing until that is fixed.")
        reaper.reap_orphans(fleet=settings.FLEET_HOME.id)
        with suppress(OSError):  # the disk may be full or read-only, which need not stop the agent
            collection.sweep()
            scratch.sweep()
        agent_id = os.environ.get("FLEET_AGENT", "")
        agent = UUID(agent_id) if agent_id else ids.new()
        pid = os.getpid()
        agents.register(
            agent=agent,
            agent_type=self.agent_type,
            node=os.environ.get("FLEET_NODE") or socket.gethostname(),
            pid=pid,
            start_time=processes.start_time_of(pid) or 0.0,
            concurrency=parent.concurrency,
        )
        hint_publisher = HintPublisher(parent.app)
        hint_publisher.start()
        _engine = Engine(
            agent=agent,
            type_settings=TypeSettings(agent_type=self.agent_type),
            slots=parent.concurrency,
            hint_publisher=hint_publisher,
            on_abandon=parent.stop,
        )
        _engine.start()
        connection.close()  # this thread needs no connection until the end
        signal.signal(signal.SIGQUIT, _stop_now)
        log.info(
            "%s runs sorties of type %s in %d slots", ids.encode(ids.AGENT, agent), self.agent_type, parent.concurrency
        )

    def stop(self, parent: Any) -> None:
        if _engine is None:
            return
        _engine.stop(within_s=_drain_s(_engine.agent))
        _engine.hint_publisher.stop()
        agents.end(agents=[_engine.agent], state=Agent.State.TERMINATED, reason="It was asked to end.", reaped=True)

    terminate = stop


def _drain_s(agent: UUID) -> float:
    """How long running sorties may take to finish: by the agent's order, else FLEET_DRAIN_S."""
    try:
        order = Agent.objects.filter(id=agent).values_list("order", flat=True).first()
    except Error:
        order = None
    return {Agent.Order.DRAIN.value: FOREVER_S, Agent.Order.NOW.value: 0.0}.get(order or "", settings.FLEET_DRAIN_S)


@signals.worker_shutting_down.connect
def _drain(**kwargs: Any) -> None:
    if _engine is not None:
        _engine.drain()


def _stop_now(number: int, frame: FrameType | None) -> None:
    """SIGQUIT: end now. Running sorties are stopped and return to the queue."""
    if _engine is not None:
        _engine.drain()
        _engine.skip_wait()
    state.should_stop = 0  # type: ignore[assignment]  # an exit code, as Celery's own handlers set it


def install(app: Celery) -> None:
    app.steps["worker"].add(EngineStep)
    remote_control.restrict()
