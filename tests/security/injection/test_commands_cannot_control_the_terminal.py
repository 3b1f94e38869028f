"""Names, messages and logs that others have written cannot control the terminal of the operator who runs a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.conf import settings

from agents.models import AgentType
from missions.models import Alert, Mission
from tests.support import fleet, repository
from tests.support.console import CommandResult, manage

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

HOSTILE = "before\x1b]0;owned\x07\x1b[2J\x9b2J\u202eafter"
CONTROLS = ("\x1b", "\x07", "\x9b", "\u202e")


def is_harmless(result: CommandResult) -> bool:
    text = result.out + result.err
    return "before" in text and "after" in text and not any(character in text for character in CONTROLS)


def test_an_alert_prints_no_control_characters() -> None:
    Alert.objects.create(rule="silent", subject="a", message=HOSTILE)
    assert is_harmless(manage("fleet_status"))


def test_an_error_that_names_a_mission_prints_no_control_characters() -> None:
    mission = fleet.launch({"one": {}})
    Mission.objects.filter(id=mission.id).update(name=HOSTILE)
    result = manage("fleet_mission", "logs", mission.ref, "absent")
    assert result.code == 1
    assert is_harmless(result)


def test_the_description_of_an_agent_type_prints_no_control_characters() -> None:
    AgentType.objects.filter(name="backend").update(description=HOSTILE)
    assert is_harmless(manage("fleet_agents", "types"))
    types = {row["name"]: row["description"] for row in manage("fleet_agents", "types", "--json").json}
    assert types["backend"] == HOSTILE, "programs get the exact text, escaped as in all JSON"
    assert "\\u001b" in manage("fleet_agents", "types", "--json").out


def test_the_log_of_a_service_prints_no_control_characters() -> None:
    log = settings.FLEET_HOME.logs / "hostile.log"
    log.write_text(f"2026-01-31 12:00:00.000 UTC [1] ERROR:  {HOSTILE}\n")
    try:
        assert is_harmless(manage("fleet_services", "logs", "hostile"))
        (line,) = manage("fleet_services", "logs", "hostile", "--json").lines
        assert HOSTILE in line["line"]
    finally:
        log.unlink()


def test_the_commit_of_a_mission_has_no_control_characters(tmp_path: Path) -> None:
    """`git log` prints the name of the mission in a repository that others use."""
    project = repository.create(tmp_path / "project", {"app.py": "one\n"})
    name = f"{HOSTILE}\rSigned-off-by: somebody"
    workspace = {"repository": str(project.path)}
    mission = fleet.launch({"edit": {"run": "echo two > app.py"}}, mission=name, workspace=workspace)
    assert fleet.run_mission(mission) == "succeeded"
    (subject,) = repository.branch(mission).subjects()
    assert subject.startswith("edit: before ]0;owned")
    assert subject.endswith("after Signed-off-by: somebody")
    assert subject.isprintable()


def test_harmless_text_is_printed_unchanged() -> None:
    AgentType.objects.filter(name="backend").update(description="Ünïcödé – “fine” 🚀")
    assert "Ünïcödé – “fine” 🚀" in manage("fleet_agents", "types").out
    assert json.loads(manage("fleet_agents", "types", "--json").out)
