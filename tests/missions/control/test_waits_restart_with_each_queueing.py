"""Each time a sortie is queued, its wait restarts for health, alerts, autoscaling and stall detection."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.db.models.functions import Now

from agents import operations as agents
from agents.models import Agent, AgentType
from missions import operations
from missions.control import admission, alerts, duties, scaling
from missions.models import Mission, Sortie
from missions.operations import external_agents
from missions.queries import health, roster
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

HOUR = timedelta(hours=1)


def lose_lease(lease: external_agents.Lease) -> None:
    Sortie.objects.filter(id=lease.sortie).update(lease_until=Now() - timedelta(seconds=1))
    duties.rescue()


def let_its_agent_leave(lease: external_agents.Lease) -> None:
    agent = Sortie.objects.get(id=lease.sortie).agent_id
    assert agent is not None
    external_agents.leave(agent=agent)


def pause_and_resume(mission: Mission) -> None:
    operations.pause(mission=mission.id)
    operations.resume(mission=mission.id, can_execute=True)
    admission.admit()


def limit_and_lift(agent_type: str) -> None:
    for max_running in (1, 0):
        AgentType.objects.filter(name=agent_type).update(max_running=max_running)
        admission.admit()


def waited_s() -> float:
    """How long the queued sortie has waited, by `ready_at`, which all readers use."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM clock_timestamp() - ready_at)::float8 FROM missions_sortie"
            " WHERE state = 'queued' AND key = 'late'"
        )
        (seconds,) = cursor.fetchone()
        return float(seconds)


@pytest.fixture
def agent() -> UUID:
    return external_agents.register(agent_type="backend", concurrency=4).id


@pytest.mark.parametrize(
    "requeue",
    [
        lambda lease: external_agents.give_back(token=lease.token),
        lose_lease,
        let_its_agent_leave,
    ],
    ids=["returned", "rescued", "agent left"],
)
def test_the_wait_of_a_requeued_sortie_starts_over(
    agent: UUID, requeue: Callable[[external_agents.Lease], None]
) -> None:
    fleet.launch({"late": {}})
    (lease,) = external_agents.claim(agent=agent)
    Sortie.objects.update(ready_at=Now() - HOUR)
    requeue(lease)
    assert waited_s() < 60
    assert health.queue() == ""
    alerts.AlertMonitor().check()
    assert "queue_old" not in {alert["rule"] for alert in alerts.active()}


@pytest.mark.parametrize(
    "requeue",
    [pause_and_resume, lambda mission: limit_and_lift("backend")],
    ids=["paused and resumed", "beyond a limit"],
)
def test_the_wait_of_a_sortie_that_went_back_to_ready_starts_when_it_is_queued_again(
    agent: UUID, requeue: Callable[[Mission], None]
) -> None:
    mission = fleet.launch({"first": {"priority": 1}, "late": {}})
    Sortie.objects.update(ready_at=Now() - HOUR)
    requeue(mission)
    assert waited_s() < 60


def test_after_a_limit_the_wait_for_an_agent_starts_when_it_is_queued(agent: UUID) -> None:
    key = {"concurrency": {"key": "one", "limit": 1}}
    fleet.launch({"first": {"priority": 1, **key}, "late": key})
    admission.admit()
    (lease,) = external_agents.claim(agent=agent)
    Sortie.objects.update(ready_at=Now() - HOUR)
    external_agents.complete(token=lease.token)
    admission.admit()
    assert waited_s() < 60


def test_autoscaling_and_stall_detection_read_the_new_wait(agent: UUID) -> None:
    fleet.launch({"late": {}})
    (lease,) = external_agents.claim(agent=agent)
    Sortie.objects.update(ready_at=Now() - HOUR)
    external_agents.give_back(token=lease.token)
    decision = next(item for item in scaling.decisions() if item.type == "backend")
    assert re.search(r"the oldest for [\d.]+ m?s;", decision.why), decision.why
    Agent.objects.update(spawned_at=Now() - HOUR, claimed_at=Now() - HOUR)
    agents.heartbeat(connection.connection, agent=agent, running=0)
    assert roster.stalled() == []
