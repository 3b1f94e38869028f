"""Work cannot get more network, files or variables by adding code for another agent type."""

from __future__ import annotations

from typing import Any

import pytest

from agents.models import AgentType
from fleet.access.models import Role
from missions.engine.process.runtime import Engine
from missions.models import Attempt, Mission, Template
from missions.operations import external_agents
from tests.support import api, fleet
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

NARROW: dict[str, Any] = {"network": False, "env_allow": [], "env_secret": [], "readable": []}


def extra(agent: str, **keys: Any) -> dict[str, Any]:
    return {"name": "extra", "agent": agent, **(keys or {"driver": "scripted"})}


def first_attempt(engine: Engine, mission: Mission) -> Attempt:
    """The only attempt of the adding sortie. The added sortie may never run, because no agent of its type exists."""
    until(lambda: engine.run_slot() or fleet.states(mission.id)["adder"] in ("succeeded", "failed"))
    return Attempt.objects.get(sortie__mission=mission, sortie__key="adder")


def add(engine: Engine, item: dict[str, Any], **plan_keys: Any) -> str:
    """The error of the attempt that adds the sortie, or an empty text."""
    others = plan_keys.pop("others", {})
    mission = fleet.launch({"adder": {"with": {"add": [item]}}, **others}, **plan_keys)
    error = first_attempt(engine, mission).error
    assert ("extra" in fleet.states(mission.id)) == (not error)
    return error


@pytest.mark.parametrize(
    "wider", [{"network": True}, {"env_allow": ["VAULT"]}, {"env_secret": ["VAULT"]}, {"readable": ["/priv"]}]
)
def test_code_for_a_type_with_wider_access_is_refused(engine: Engine, wider: dict[str, Any]) -> None:
    AgentType.objects.filter(name="backend").update(**NARROW)
    AgentType.objects.create(name="vault", **{**NARROW, **wider})
    error = add(engine, extra("vault"))
    assert "may access more than backend" in error
    assert "name the type in the plan" in error


def test_code_for_a_type_that_the_plan_names_is_added(engine: Engine) -> None:
    AgentType.objects.create(name="vault", readable=["/priv"])
    later = {"agent": "vault", "needs": ["adder"]}
    assert add(engine, extra("vault"), others={"later": later}) == ""


def test_naming_a_type_by_an_added_sortie_does_not_count(engine: Engine) -> None:
    AgentType.objects.filter(name="backend").update(**NARROW)
    AgentType.objects.create(name="vault", **{**NARROW, "readable": ["/priv"]}, prompt_argv=["cat"])
    second = {"name": "second", "agent": "backend", "driver": "scripted", "with": {"add": [extra("vault")]}}
    prompt = {"name": "asked", "agent": "vault", "prompt": "Hello", "outputs": ["a"]}
    mission = fleet.launch({"adder": {"with": {"add": [prompt, second]}}})
    until(lambda: engine.run_slot() or fleet.states(mission.id).get("second") == "failed")
    assert "extra" not in fleet.states(mission.id)


@pytest.mark.parametrize(
    "limits",
    [{}, {"readable": ["/srv/models/small"]}, {"env_allow": ["PROXY"]}, {"env_secret": ["PROXY"], "network": False}],
)
def test_a_planner_can_split_its_work_among_types_with_no_wider_access(engine: Engine, limits: dict[str, Any]) -> None:
    AgentType.objects.filter(name="backend").update(readable=["/srv/models"], env_allow=["PROXY"])
    AgentType.objects.filter(name="frontend").update(**limits)
    assert add(engine, extra("frontend")) == ""


def test_paths_that_every_sortie_of_the_mission_may_read_do_not_count(engine: Engine) -> None:
    AgentType.objects.create(name="vault", readable=["/srv/models/small"])
    assert add(engine, extra("vault"), readable=["/srv/models"]) == ""


def test_prompts_may_use_any_type_that_takes_them(engine: Engine) -> None:
    AgentType.objects.create(name="vault", readable=["/priv"], prompt_argv=["cat"])
    assert add(engine, extra("vault", prompt="Say hello.", outputs=["a"])) == ""
    assert "may access more" in add(engine, extra("vault", prompt="Say hello.", outputs=["a"], verify="cat /priv/key"))


@pytest.mark.parametrize(("role", "status"), [(Role.AGENT, 422), (Role.ADMIN, 200)])
def test_external_agents_add_code_to_templates_only_with_the_right_to_edit_them(role: Role, status: int) -> None:
    Template.objects.create(
        name="ask", text="{mission: Ask, sorties: {one: {agent: backend, prompt: Think}}}", folder="/srv"
    )
    AgentType.objects.filter(name="backend").update(external=True)
    ann, robot = api.person("ann"), api.person("robot", role, can_execute=True)
    assert ann.post("missions", {"template": "ask"}).status_code == 201
    agent = external_agents.register(agent_type="backend", by=robot.user)
    (lease,) = external_agents.claim(agent=agent.id)
    additions = [{"name": "extra", "agent": "frontend", "run": "cat /srv/key"}]
    response = robot.post(
        f"sorties/{lease.token.partition('.')[0]}/complete", {"token": lease.token, "sorties": additions}
    )
    assert response.status_code == status, response.content
