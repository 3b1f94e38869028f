"""A real node records what its agents use and print, up to the last output of one that crashes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings

from agents.confinement import probe
from agents.models import Agent, AgentType, LogPiece, Sample
from fleet.host import processes
from tests.support.paths import CHECKOUT
from tests.support.processes import hosts
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

MANAGE = str(CHECKOUT / "manage.py")


Start = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def start(subprocess_environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Starts a node with one agent of type backend; repeated calls start the same node again."""
    AgentType.objects.exclude(name="backend").update(agents=0)
    AgentType.objects.filter(name="backend").update(agents=1)
    started: list[subprocess.Popen[bytes]] = []
    with (tmp_path / "node.log").open("wb") as response:

        def begin() -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [sys.executable, MANAGE, "fleet_node", "--name", "here"],
                env={**subprocess_environment, "FLEET_HOME": str(tmp_path), "FLEET_SAMPLE_S": "0.3"},
                stdout=response,
                stderr=response,
            )
            started.append(process)
            return process

        yield begin
        for process in started:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            finally:
                process.kill()
                process.wait()


def log_of(agent: Agent) -> str:
    return "".join(LogPiece.objects.filter(agent=agent).order_by("id").values_list("text", flat=True))


def test_a_node_records_its_agents(start: Start, tmp_path: Path) -> None:
    node = start()
    until(lambda: Agent.objects.filter(state="idle").exists())
    first = Agent.objects.get(state="idle")
    assert first.pid is not None

    until(lambda: Sample.objects.filter(agent=first).count() >= 3)
    until(lambda: Sample.objects.filter(agent=first, cpu__gt=0).exists())
    sample = Sample.objects.filter(agent=first, cpu__gt=0).order_by("at")[0]
    assert sample.cpu < 4
    assert 5_000_000 < sample.memory_bytes < 400_000_000
    assert sample.processes >= 1

    until(lambda: "runs sorties of type backend" in log_of(first))
    until(lambda: "Connected to" in log_of(first) or "ready." in log_of(first))
    secrets = {settings.FLEET_ENDPOINTS.postgres.password, settings.FLEET_CREDENTIALS.redis_password}
    assert not [secret for secret in secrets if secret in log_of(first)]
    assert "://:[redacted]@" in log_of(first), "the broker is named without its password"
    if not probe.sandbox_problem():
        assert "superuser" not in log_of(first), "Celery does not warn about root, because work runs in the sandbox"

    with (tmp_path / "private" / "logs" / "agent-backend-1@here.log").open("ab") as file:
        hosts.halt(first.pid)
        file.write(b"its last words, without a line's end")
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: Agent.objects.filter(type="backend", state="idle").exclude(id=first.id).exists())
    first.refresh_from_db()
    assert first.state == "lost"
    assert log_of(first).endswith("its last words, without a line's end")

    second = Agent.objects.get(state="idle")
    until(lambda: "runs sorties of type backend" in log_of(second))
    assert "its last words" not in log_of(second)
    node.send_signal(signal.SIGTERM)
    node.wait(30)
    assert second.ref in log_of(second)
    whole = (tmp_path / "private" / "logs" / "agent-backend-1@here.log").read_text()
    assert len(log_of(first)) + len(log_of(second)) == pytest.approx(len(whole), abs=400)


def test_output_of_agents_after_their_node_was_killed_is_not_lost(start: Start, tmp_path: Path) -> None:
    node = start()
    until(lambda: Agent.objects.filter(state="idle").exists())
    first = Agent.objects.get(state="idle")
    until(lambda: "ready." in log_of(first))
    node.kill()
    node.wait()
    path = tmp_path / "private" / "logs" / "agent-backend-1@here.log"
    until(lambda: not processes.is_alive(pid=first.pid, start_time=first.start_time))
    whole = path.read_text()
    assert len(whole) > len(log_of(first)), "the agent logged its shutdown"
    start()
    until(lambda: log_of(first).endswith(whole[-30:]))
