"""A prompt is sent to the standard input of its agent type's command; a type without one refuses it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agents.models import AgentType
from missions import plan
from missions.engine.process.runtime import Engine
from missions.models import Attempt, Mission
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

CLI = """
import json, os, sys
prompt = sys.stdin.read()
print("thinking about", prompt)
received = {"prompt": prompt, "arguments": sys.argv[1:], "key": os.environ.get("MODEL_KEY")}
json.dump(received, open(os.environ["FLEET_RESULT"], "w"))
"""
PLAN = {
    "first": {"with": {"result": {"n": 3}}},
    "ask": {"needs": ["first"], "prompt": "Make {{ needs.first.result.n }} of $HOME `x`; {{ inputs.what }}\n"},
}


@pytest.fixture
def cli(tmp_path: Path) -> list[str]:
    script = tmp_path / "a cli.py"
    script.write_text(CLI)
    return [sys.executable, str(script), "--effort", "very high"]


def configure(argv: list[str], env_allow: list[str]) -> None:
    AgentType.objects.filter(name="backend").update(
        prompt_argv=argv, env_allow=env_allow, readable=[str(Path(word).parent) for word in argv[1:2]]
    )


def launch(folder: Path) -> Mission:
    return fleet.launch(PLAN, folder=str(folder), inputs={"what": {"default": 'tea\'s "best"'}})


def test_the_command_gets_the_prompt_even_if_it_was_set_after_the_agent_started(
    engine: Engine, cli: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MODEL_KEY", "k")
    configure(cli, ["MODEL_KEY"])
    mission = launch(tmp_path)
    assert fleet.run_to_end(engine, mission) == "succeeded"
    assert Attempt.objects.get(sortie__mission=mission, sortie__key="ask").result == {
        "prompt": 'Make 3 of $HOME `x`; tea\'s "best"\n',
        "arguments": ["--effort", "very high"],
        "key": "k",
    }


def test_a_prompt_for_a_type_without_a_command_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(plan.PlanError) as excinfo:
        launch(tmp_path)
    (problem,) = excinfo.value.problems
    assert "has no command that takes a prompt" in problem.message
    assert "set the type's prompt command" in problem.fix
    assert problem.where == "sorties.ask.prompt"


def test_a_command_removed_before_the_start_fails_the_attempt_with_a_hint(
    engine: Engine, cli: list[str], tmp_path: Path
) -> None:
    configure(cli, [])
    mission = launch(tmp_path)
    configure([], [])
    assert fleet.run_to_end(engine, mission) == "failed"
    error = Attempt.objects.get(sortie__mission=mission, sortie__key="ask").error
    assert "takes no prompts" in error
    assert "fleet_agents type set backend" in error
