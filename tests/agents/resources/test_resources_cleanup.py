"""`fleet_cleanup` thins samples and removes the logs of agents that ended long ago; without --yes it only counts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.conf import settings as fleet_settings
from django.db import connection
from django.utils import timezone

from agents.models import Agent, AgentType, LogPiece, Sample
from agents.node.recorder import NodeRecorder
from tests.support.console import manage

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def new_agent(*, ended_days_ago: float | None = None) -> Agent:
    if ended_days_ago is None:
        return Agent.objects.create(type=AgentType.objects.get(name="backend"))
    ended_at = timezone.now() - timedelta(days=ended_days_ago)
    return Agent.objects.create(type=AgentType.objects.get(name="backend"), state="terminated", ended_at=ended_at)


def take(agent: Agent, *, hours_ago: float, step_s: int = 10) -> None:
    at = timezone.now() - timedelta(hours=hours_ago)
    Sample.objects.create(agent=agent, at=at, step_s=step_s, cpu=1.0, memory_bytes=1, processes=1)


def test_old_samples_are_thinned_and_old_logs_removed() -> None:
    alive, old, recent = new_agent(), new_agent(ended_days_ago=40), new_agent(ended_days_ago=3)
    for agent in (alive, old, recent):
        LogPiece.objects.create(agent=agent, text="said\n")
    for hours_ago in (1, 7, 30, 40):
        take(alive, hours_ago=hours_ago)
    take(old, hours_ago=24 * 40, step_s=600)
    counted = manage("fleet_cleanup")
    assert (
        "Would remove 4 resource samples (older ones are replaced by means).\nWould remove 1 log piece of ended agents.\n"
        in counted.err
    )
    assert (Sample.objects.filter(step_s=10).count(), LogPiece.objects.count()) == (4, 3)
    result = manage("fleet_cleanup", "--yes", "--json").json
    assert (result["samples"], result["log_pieces"]) == (4, 1)
    assert [s.step_s for s in Sample.objects.filter(agent=alive).order_by("at")] == [600, 600, 600, 10]
    assert not Sample.objects.filter(agent=old).exists()
    assert set(LogPiece.objects.values_list("agent", flat=True)) == {alive.id, recent.id}


def test_a_node_without_postgres_loses_only_samples(caplog: pytest.LogCaptureFixture) -> None:
    """The node's own connection is cut just before it records."""
    recorder, agent = NodeRecorder(), new_agent()
    path = fleet_settings.FLEET_HOME.logs / f"agent-{agent.ref}.log"
    recorder.begin(agent=agent.id, path=path)
    path.write_text("said meanwhile\n")
    with psycopg.connect(**_address(), autocommit=True) as other:
        assert isinstance(connection.connection, psycopg.Connection)
        other.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
    recorder.finish(agent=agent.id)
    assert "stays in their log files" in caplog.text
    assert not LogPiece.objects.exists()
    recorder.finish(agent=agent.id)
    assert LogPiece.objects.get(agent=agent).text == "said meanwhile\n"
    path.unlink()


def _address() -> dict[str, Any]:
    server = fleet_settings.FLEET_ENDPOINTS.postgres
    name = connection.settings_dict["NAME"]
    return {"host": server.host, "port": server.port, "user": server.user, "password": server.password, "dbname": name}
