"""An empty task is refused before anything is started."""

from __future__ import annotations

import pytest

from agents.models import Agent, AgentType
from missions.models import Mission
from tests.missions.plan import plans
from tests.support import api
from tests.support.console import manage

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture(autouse=True)
def takes_prompts() -> None:
    AgentType.objects.filter(name="backend").update(prompt_argv=["true"])


@pytest.mark.parametrize("task", ["", " ", "\n\t"])
@pytest.mark.parametrize("command", [("fleet_spawn", "backend"), ("fleet_agents", "spawn", "backend")])
def test_spawn_refuses_an_empty_task(command: tuple[str, ...], task: str) -> None:
    result = manage(*command, task)
    assert (result.code, result.out, result.err) == (2, "", "The task is empty. Say what to do.\n")
    assert not Agent.objects.exists()
    assert not Mission.objects.exists()


@pytest.mark.parametrize("task", ["", " "])
def test_an_empty_objective_is_refused_over_http(task: str) -> None:
    response = api.person("ann").post("missions", {"objective": task, "agent": "backend"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid")
    assert "/objective" in str(response.json())
    assert not Mission.objects.exists()


@pytest.mark.parametrize("prompt", ["''", "' '", '"\\n"'])
def test_an_empty_prompt_is_a_problem_of_a_plan(prompt: str) -> None:
    (error,) = plans.problems(plans.whole(f"a: {{agent: backend, prompt: {prompt}}}"))
    assert (error.line, error.where) == (3, "sorties.a.prompt")
