"""`fleet_mission run` and `watch` without a terminal print one line per change."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Agent
from fleet.console.progress import SILENT_S, Board
from missions.control import duties
from missions.models import Mission
from missions.operations import external_agents
from missions.queries import mission_json, sortie_json, workspaces
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def lose(agent: Agent) -> None:
    Agent.objects.filter(id=agent.id).update(state="lost", ended_at=timezone.now(), reaped=True)
    duties.rescue()


@pytest.mark.parametrize("looks", ["between", "only afterwards"])
def test_a_lost_attempt_and_the_next_one_have_separate_lines(capsys: pytest.CaptureFixture[str], looks: str) -> None:
    mission = fleet.launch({"a": {}})
    board = Board(resolve_command=workspaces.resolve_command)

    def look(summary: dict[str, Any] | None = None) -> list[str]:
        found = Mission.objects.get(id=mission.id)
        board.update(summary or mission_json.summary(found), list(sortie_json.of_mission(found, results=False)))
        stderr = capsys.readouterr().err.splitlines()
        return [line for line in stderr if line.startswith("[")]  # the log is written there too

    assert look() == []
    first = external_agents.register(agent_type="backend")
    external_agents.claim(agent=first.id)
    assert look() == ["[0/1] ▶ a running"]
    assert look() == []
    lose(first)
    if looks == "between":
        assert look() == ["[0/1] · a queued again: Its agent was lost while it ran."]
    (lease,) = external_agents.claim(agent=external_agents.register(agent_type="backend").id)
    assert look() == ["[0/1] ▶ a running, attempt 2"]
    a_moment_ago = mission_json.summary(mission)
    external_agents.complete(token=lease.token)
    assert look(a_moment_ago) == ["[1/1] ✓ a succeeded"]


def test_changes_are_printed_in_order_with_the_count_at_that_moment(capsys: pytest.CaptureFixture[str]) -> None:
    """`report` is first in the plan, and everything happened between two polls."""
    mission = fleet.launch({"report": {"needs": ["a", "b"]}, "a": {"needs": ["b"]}, "b": {}})
    agent = external_agents.register(agent_type="backend")
    for _ in range(3):
        (lease,) = external_agents.claim(agent=agent.id)
        external_agents.complete(token=lease.token)
    found = Mission.objects.get(id=mission.id)
    Board(resolve_command=workspaces.resolve_command).update(
        mission_json.summary(found), list(sortie_json.of_mission(found, results=False))
    )
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")] == [
        "[1/3] ✓ b succeeded",
        "[2/3] ✓ a succeeded",
        "[3/3] ✓ report succeeded",
    ]


def test_simultaneous_ends_are_printed_after_their_needs(capsys: pytest.CaptureFixture[str]) -> None:
    mission = fleet.launch({"c": {"needs": ["b"]}, "b": {"needs": ["a"]}, "a": {"with": {}}})
    (lease,) = external_agents.claim(agent=external_agents.register(agent_type="backend").id)
    external_agents.fail(token=lease.token, error="broken")
    found = Mission.objects.get(id=mission.id)
    Board(resolve_command=workspaces.resolve_command).update(
        mission_json.summary(found), list(sortie_json.of_mission(found, results=False))
    )
    values = [line.split()[:4] for line in capsys.readouterr().err.splitlines() if line.startswith("[")]
    assert values == [["[1/3]", "✗", "a", "failed:"], ["[2/3]", "–", "b", "skipped:"], ["[3/3]", "–", "c", "skipped:"]]


def test_a_sortie_read_before_its_need_is_printed_at_the_next_poll(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A long list is read in pages: `a` was read while it ran, and `report` after all had ended."""
    mission = fleet.launch({"a": {}, "report": {"needs": ["a"]}})
    agent = external_agents.register(agent_type="backend")
    board, summary = Board(resolve_command=workspaces.resolve_command), mission_json.summary(mission)
    (lease,) = external_agents.claim(agent=agent.id)
    a, _ = sortie_json.of_mission(mission, results=False)
    external_agents.complete(token=lease.token)
    (lease,) = external_agents.claim(agent=agent.id)
    external_agents.complete(token=lease.token)
    now, report = sortie_json.of_mission(mission, results=False)
    board.update(summary, [a, report])
    board.update(summary, [now, report])
    values = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")]
    assert values == ["[0/2] ▶ a running", "[1/2] ✓ a succeeded", "[2/2] ✓ report succeeded"]


def test_a_retry_is_printed_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    mission = fleet.launch({"a": {"retry": {"max_attempts": 3, "backoff": "50s"}}})
    (lease,) = external_agents.claim(agent=external_agents.register(agent_type="backend").id)
    external_agents.fail(token=lease.token, error="broken")
    Board(resolve_command=workspaces.resolve_command).update(
        mission_json.summary(mission), list(sortie_json.of_mission(mission, results=False))
    )
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")]
    assert re.fullmatch(r"\[0/1\] … a retry 2/3 in \d+ s: broken", line)


def test_without_changes_the_progress_is_printed_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    mission, now = fleet.launch({"a": {}, "b": {"needs": ["a"]}}), 0.0
    board = Board(resolve_command=workspaces.resolve_command, clock=lambda: now)

    def look() -> list[str]:
        board.update(mission_json.summary(mission), list(sortie_json.of_mission(mission, results=False)))
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")]

    now = SILENT_S - 1
    assert look() == []
    now = SILENT_S
    (line,) = look()
    assert line.startswith("[0/2] running for ")
    assert "; a: Waits for an agent of type backend: none is taking work" in line
    assert look() == []
    external_agents.claim(agent=external_agents.register(agent_type="backend").id)
    assert look() == ["[0/2] ▶ a running"]
    now += SILENT_S
    (line,) = look()
    assert line.endswith("; a still running")


def test_a_long_reason_is_shortened_visibly(capsys: pytest.CaptureFixture[str]) -> None:
    mission = fleet.launch({"a": {}})
    (lease,) = external_agents.claim(agent=external_agents.register(agent_type="backend").id)
    external_agents.fail(token=lease.token, error="word " * 100, retry=False)
    found = Mission.objects.get(id=mission.id)
    Board(resolve_command=workspaces.resolve_command).update(
        mission_json.summary(found), list(sortie_json.of_mission(found, results=False))
    )
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")]
    assert line.endswith("word…")
    assert len(line) < 230
