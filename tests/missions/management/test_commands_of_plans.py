"""fleet_mission validate, run and create: what is checked before a mission exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from missions.models import Mission
from missions.states import SortieState
from tests.missions.management.fleet_mission import SUMMARY, fleet_mission

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture
def good(tmp_path: Path) -> str:
    path = tmp_path / "good.yaml"
    path.write_text("mission: Good\ninputs: {who: {}}\nsorties:\n  one: {agent: backend, driver: scripted}\n")
    return str(path)


def test_a_valid_plan_is_reported_as_valid(good: str) -> None:
    result = fleet_mission("validate", good)
    assert (result.code, result.err) == (0, "The plan is valid: Good, 1 sortie.\n")
    assert fleet_mission("validate", good, "--json").json == {
        "valid": True,
        "name": "Good",
        "sorties": 1,
        "errors": [],
        "warnings": [],
    }


def test_every_problem_of_a_plan_is_reported_as_text_and_as_json(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("mission: M\nsorties:\n  a: {agent: nobody, run: x}\n  b: {agent: backend, run: x, needs: [c]}\n")
    result = fleet_mission("validate", str(path))
    assert result.code == 2
    assert "line 3, sorties.a.agent" in result.err
    assert "line 4, sorties.b.needs" in result.err
    found = fleet_mission("validate", str(path), "--json")
    assert found.code == 2
    assert found.json["valid"] is False
    assert [problem["line"] for problem in found.json["errors"]] == [3, 4]
    assert set(found.json["errors"][0]) == {"line", "column", "where", "message", "fix"}
    for action in ("run", "create"):
        assert fleet_mission(action, str(path)).code == 2
    assert not Mission.objects.exists()


@pytest.mark.parametrize(
    "name",
    ["no such file", "/", "/proc/self/mem", "/dev/zero", "a\udcff"],
    ids=["none", "folder", "odd", "endless", "name"],
)
def test_a_plan_that_cannot_be_read_is_wrong_usage(name: str) -> None:
    result = fleet_mission("validate", name)
    assert result.code == 2
    assert result.err.startswith("The plan ")


@pytest.mark.parametrize(
    "arguments",
    [["--param", "who"], ["--param", "=x"], ["--param", "whom=x"], ["--param", "who=a", "--param", "who=b"]],
)
def test_an_invalid_parameter_is_wrong_usage(good: str, arguments: list[str]) -> None:
    for action in ("validate", "create", "run"):
        assert fleet_mission(action, good, *arguments).code == 2
    assert not Mission.objects.exists()


@pytest.mark.parametrize(
    "agent, arguments, code", [("backend", "ada", 0), ("of another fleet", "ada", 0), ("backend", "", 2)]
)
def test_a_dry_run_checks_what_needs_no_database_and_launches_nothing(
    tmp_path: Path, agent: str, arguments: str, code: int
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        f"mission: M\ninputs: {{who: {{enum: [ada]}}}}\nsorties:\n  a: {{agent: {agent}, driver: scripted}}\n"
    )
    result = fleet_mission("run", str(path), "--param", f"who={arguments}", "--dry-run", "--json")
    assert (result.code, result.json["valid"]) == (code, code == 0)
    assert not Mission.objects.exists()


def test_a_created_mission_starts_when_it_is_resumed(good: str) -> None:
    created = fleet_mission("create", good, "--json")
    assert created.code == 0
    assert set(created.json) == SUMMARY
    assert created.json["state"] == "planned"
    document = fleet_mission("show", created.json["id"], "--json").json
    assert document["items"][0]["waits_for"] == "Waits for its mission to be resumed: it is planned."
    assert fleet_mission("resume", "latest", "--json").json["state"] == "running"


def test_run_detach_returns_the_summary_at_once(good: str) -> None:
    result = fleet_mission("run", good, "--detach", "--json", "--param", "who=me")
    assert result.code == 0
    assert set(result.json) == SUMMARY
    assert result.json["sorties"] == {"total": 1, **{s.value: int(s == "queued") for s in SortieState}}
    assert Mission.objects.get().inputs == {"who": "me"}
