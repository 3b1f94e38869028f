"""An agent that is alive with a free slot but takes no work while its queue waits is detected and restarted."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from agents import operations as agents
from agents.models import Agent, AgentType, Node
from missions.control import duties
from tests.support import fleet
from tests.support.console import manage

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture
def node() -> Node:
    return agents.join(name="a host", pid=1, start_time=0.0)


def agent(node: Node, *, order: str = "") -> Agent:
    """An agent that has been up for an hour, has a recent heartbeat, and has never claimed a sortie."""
    new_agent = agents.create_agent(type=AgentType.objects.get(name="backend"), node=node, ordinal=1, concurrency=2)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE agents_agent SET state = 'idle', pid = 1, spawned_at = now() - interval '1 h',"
            ' "order" = %s WHERE id = %s',
            [order, new_agent.id],
        )
    return new_agent


def work_that_waits(seconds: float = 300) -> None:
    fleet.launch({"one": {}})
    with connection.cursor() as cursor:
        cursor.execute("UPDATE missions_sortie SET ready_at = now() - make_interval(secs => %s)", [seconds])


def test_a_stalled_agent_is_reported_and_restarted_once(node: Node) -> None:
    stalled = agent(node)
    work_that_waits()
    health = manage("fleet_agents", "health", "--type", "backend")
    assert (health.code, "claims nothing while work is queued" in health.out) == (1, True)
    assert duties.revive() == [stalled.id]
    stalled.refresh_from_db()
    assert (stalled.order, "claimed nothing" in stalled.reason) == ("restart", True)
    assert duties.revive() == []


@pytest.mark.parametrize(
    "change",
    [
        "running = 2",
        "claimed_at = now()",
        "spawned_at = now()",
        "state = 'draining'",
        "heartbeat_at = now() - interval '1 h'",
    ],
)
def test_an_agent_with_a_reason_not_to_claim_is_left_alone(node: Node, change: str) -> None:
    agent(node)
    work_that_waits()
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE agents_agent SET {change}")
    assert duties.revive() == []


@pytest.mark.parametrize("waits_s", [None, 1])
def test_no_agent_is_restarted_unless_work_has_waited(node: Node, waits_s: float | None) -> None:
    agent(node)
    if waits_s:
        work_that_waits(waits_s)
    assert duties.revive() == []


def test_the_agent_of_one_place_is_not_restarted_forever(node: Node) -> None:
    for _ in range(settings.FLEET_MAX_REVIVALS):
        predecessor = agent(node, order="restart")
        Agent.objects.filter(id=predecessor.id).update(state="terminated", ended_at=timezone.now())
    agent(node)
    work_that_waits()
    assert duties.revive() == []
