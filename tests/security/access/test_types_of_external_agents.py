"""External agents get only the work of agent types that an operator opened to them."""

from __future__ import annotations

import pytest

from agents.operations import types
from fleet import errors
from fleet.access.models import Role
from missions.engine.process.runtime import Engine
from missions.operations import external_agents
from tests.support import api, fleet

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = {"run": "deploy", "env": {"DEPLOY_KEY": "the key of the deployment"}}


@pytest.fixture
def robot() -> api.Client:
    return api.machine(api.person("robot", Role.AGENT).user, "fly", "read")


@pytest.mark.parametrize("role", [Role.AGENT, Role.ADMIN])
def test_registering_for_a_type_that_is_not_open_is_refused(role: Role) -> None:
    fleet.launch({"deploy": SECRET})
    response = api.machine(api.person("robot", role).user, "fly").post("agents", {"type": "backend"})
    assert response.status_code == 403
    assert "backend is not open to external agents" in response.json()["detail"]
    assert "`accepts_external`" in response.json()["detail"]
    assert "manage.py" not in response.json()["detail"]


@pytest.mark.parametrize("setting", ["external", "accepts_external"])
def test_an_agent_of_an_open_type_gets_its_work_until_the_type_is_closed(robot: api.Client, setting: str) -> None:
    fleet.launch({"deploy": SECRET, "again": SECRET})
    types.change(name="backend", changes={setting: True})
    agent = robot.post("agents", {"type": "backend", "concurrency": 2}).json()["id"]
    (lease,) = robot.post("sorties/claim", {"agent": agent}).json()["leases"]
    assert lease["work"]["env"] == SECRET["env"]
    types.change(name="backend", changes={setting: False})
    response = robot.post("sorties/claim", {"agent": agent})
    assert response.status_code == 403
    assert "backend is not open to external agents" in response.json()["detail"]
    path = f"sorties/{lease['sortie']}/complete"
    assert robot.post(path, {"token": lease["token"]}).status_code == 200  # sorties that it holds may still end


def test_nodes_serve_a_type_that_is_open_to_both(engine: Engine) -> None:
    types.change(name="backend", changes={"accepts_external": True})
    mission = fleet.launch({"one": {}})
    assert fleet.run_to_end(engine, mission) == "succeeded"


def test_the_operators_own_programs_may_register_for_any_type() -> None:
    fleet.launch({"one": {}})
    assert external_agents.claim(agent=external_agents.register(agent_type="backend").id)


def test_the_refusal_names_the_command_that_opens_the_type() -> None:
    user = api.person("robot", Role.AGENT).user
    with pytest.raises(errors.Forbidden, match=r"agents type set backend --external on"):
        external_agents.register(agent_type="backend", by=user)
