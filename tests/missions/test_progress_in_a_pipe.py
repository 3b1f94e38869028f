"""What `fleet_mission run` and `watch` print where there is no terminal: a line for each change."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from agents.models import Agent
from fleet.console.progress import SILENT_S, Board
from missions import dispatch, queries
from missions.models import Mission
from missions.operations import outside
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def lose(agent: Agent) -> None:
    Agent.objects.filter(id=agent.id).update(state="lost", ended_at=timezone.now())
    dispatch.rescue()


@pytest.mark.parametrize("looks", ["between", "only afterwards"])
def test_an_attempt_that_is_lost_and_the_next_one_have_lines_of_their_own(
    capsys: pytest.CaptureFixture[str], looks: str
) -> None:
    mission = fleet.launch({"a": {}})
    board = Board()

    def look(summary: dict[str, Any] | None = None) -> list[str]:
        found = Mission.objects.get(id=mission.id)
        board.update(summary or queries.summary(found), list(queries.items(found, results=False)))
        said = capsys.readouterr().err.splitlines()
        return [line for line in said if line.startswith("[")]  # the log goes there too

    assert look() == []
    first = outside.register(agent_type="backend")
    outside.claim(agent=first.id)
    assert look() == ["[0/1] ▶ a running"]
    assert look() == []
    lose(first)
    if looks == "between":
        assert look() == ["[0/1] · a queued again: Its agent was lost in mid-flight."]
    (lease,) = outside.claim(agent=outside.register(agent_type="backend").id)
    assert look() == ["[0/1] ▶ a running, attempt 2"]
    a_moment_ago = queries.summary(mission)
    outside.complete(token=lease.token)
    assert look(a_moment_ago) == ["[1/1] ✓ a succeeded"]


def test_where_nothing_changes_a_line_tells_now_and_then_how_things_stand(
    capsys: pytest.CaptureFixture[str],
) -> None:
    mission, now = fleet.launch({"a": {}, "b": {"needs": ["a"]}}), 0.0
    board = Board(clock=lambda: now)

    def look() -> list[str]:
        board.update(queries.summary(mission), list(queries.items(mission, results=False)))
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")]

    now = SILENT_S - 1
    assert look() == []
    now = SILENT_S
    (line,) = look()
    assert line.startswith("[0/2] running for ")
    assert "; a: Waits for an agent of type backend: none takes work" in line
    assert look() == []
    outside.claim(agent=outside.register(agent_type="backend").id)
    assert look() == ["[0/2] ▶ a running"]
    now += SILENT_S
    (line,) = look()
    assert line.endswith("; a still running")
