"""Errors name fields as the client does, and hints say what a client of the API can do."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError

from agents.models import AgentType
from fleet import errors
from fleet.access.models import Role
from fleet.api import problems
from missions.models import Template
from missions.operations import external_agents
from tests.support import api

pytestmark = pytest.mark.django_db
GREET = {
    "mission": "Greet",
    "inputs": {"who": {"required": True, "description": "Whom to greet."}, "times": {"type": "integer"}},
    "sorties": {"a": {"agent": "backend", "run": ["echo", "{{ inputs.who }}"]}},
}


@pytest.fixture
def ann() -> api.Client:
    return api.person("ann", can_execute=True)


def input_errors(response: Any) -> dict[str, str]:
    document = response.json()
    assert (response.status_code, document["code"]) == (422, "invalid"), document
    assert not any("line" in error for error in document["errors"])
    return {error["pointer"]: error["detail"] for error in document["errors"]}


def test_a_problem_of_a_parameter_points_to_params(ann: api.Client) -> None:
    result = input_errors(ann.post("missions", {"plan": GREET, "params": {"times": "many", "whom": "x"}}))
    assert result.keys() == {"/params/who", "/params/times", "/params/whom"}
    assert result["/params/who"].endswith("Set it in `params`. Whom to greet.")
    assert "--param" not in str(result)


def test_a_problem_of_the_agent_of_an_objective_points_to_agent(ann: api.Client) -> None:
    result = input_errors(ann.post("missions", {"objective": "Mend it.", "agent": "backends"}))
    assert result.keys() == {"/agent"}
    assert 'Did you mean "backend"?' in result["/agent"]
    AgentType.objects.filter(name="backend").update(prompt_argv=[])
    result = input_errors(ann.post("missions", {"objective": "Mend it.", "agent": "backend"}))
    assert result.keys() == {"/agent"}
    assert result["/agent"].startswith(
        "The agent type 'backend' takes no prompts. Choose one with `takes_prompt` from "
    )
    assert result["/agent"].endswith("`prompt_argv` in PATCH /api/v1/agent-types/backend.")


def test_a_problem_of_a_broken_template_points_to_template(ann: api.Client) -> None:
    Template.objects.create(name="old", text="{mission: x, sorties: {a: {agent: gone, run: ls}}}")
    result = input_errors(ann.post("missions", {"template": "old"}))
    assert result.keys() == {"/template"}
    assert "gone" in result["/template"]


def test_hints_name_no_commands(ann: api.Client) -> None:
    ref = ann.post("missions", {"plan": api.PLAN}).json()["id"]
    machine = api.machine(ann.user, "read")
    fly = api.person("fly", Role.AGENT)
    AgentType.objects.filter(name="testing").update(enabled=False)
    for response, status, says in (
        (ann.get(f"missions/{ref}/sorties?after=nothing"), 404, f"See GET /api/v1/missions/{ref}/sorties."),
        (api.Client("flk_00000000_nothing").get("me"), 401, "POST /api/v1/keys"),
        (machine.post("missions", {"plan": api.PLAN}), 403, "This key lacks the scope `launch` (missions.create)."),
        (fly.post("agents", {"type": "nothing"}), 404, "See GET /api/v1/agent-types."),
        (fly.post("agents", {"type": "testing"}), 409, "Ask an admin to enable it."),
    ):
        assert (response.status_code, says in response.json()["detail"]) == (status, True), response.json()
        assert "manage.py" not in response.json()["detail"]


def test_a_remedy_that_is_a_command_is_marked_as_for_operators(ann: api.Client) -> None:
    body = ann.get("agents/system-health").json()
    assert body["missing"]
    assert body["remedy"].startswith("For the fleet's operators: ")


def test_commands_keep_their_own_hints() -> None:
    AgentType.objects.filter(name="testing").update(enabled=False)
    with pytest.raises(errors.Conflict, match="Enable it in the admin"):
        external_agents.register(agent_type="testing")


def test_an_outage_of_the_database_is_a_503_with_retry_after() -> None:
    response = problems.handle(OperationalError("the connection is closed"), {})
    assert response is not None
    assert (response.status_code, int(response.headers["Retry-After"]) > 0) == (503, True)
    assert "Try again" in response.data["detail"]
    assert "manage.py" not in response.data["detail"]


def test_refusals_by_the_framework_say_what_to_do_next(ann: api.Client) -> None:
    form = ann._client.post(
        "/api/v1/missions", "plan=x", content_type="text/plain", headers={"Authorization": f"Bearer {ann.bearer}"}
    )
    for response, status, says in (
        (api.anonymous().get("me"), 401, "POST /api/v1/auth/token"),
        (ann.send("PUT", "missions"), 405, "PUT is not allowed here. Use GET or POST."),
        (ann.get("missions", Accept="image/png"), 406, "Send `Accept: application/json`."),
        (form, 415, "Send JSON, and `Content-Type: application/json`."),
    ):
        assert (response.status_code, says in response.json()["detail"]) == (status, True), response.json()


def test_a_repeated_parameter_is_refused(ann: api.Client) -> None:
    assert input_errors(ann.get("missions?limit=1&limit=2")) == {"/limit": "Send it only once."}
    assert ann.get("missions?state=failed&state=running").status_code == 200


def test_an_unknown_name_is_reported_with_the_valid_ones(ann: api.Client) -> None:
    parameter = (
        "Unknown parameter. The parameters are: limit, cursor, state, name, team, created_by, schedule, ordering."
    )
    assert input_errors(ann.get("missions?stat=failed")) == {"/stat": parameter}
    assert input_errors(ann.get("me?verbose=1")) == {"/verbose": "Unknown parameter. There are none here."}
    assert input_errors(ann.post("keys", {"title": "x", "name": "x", "scopes": ["read"]})) == {
        "/title": "Unknown field. The fields are: name, scopes, expires_at."
    }


def test_an_invalid_choice_is_reported_with_the_valid_ones(ann: api.Client) -> None:
    for response, pointer, choices in (
        (ann.get("missions?ordering=name"), "/ordering", "id, -id."),
        (ann.get("missions?state=flying"), "/state", "planned, running"),
        (ann.post("keys", {"name": "one", "scopes": ["all"]}), "/scopes/0", "read, launch, operate, fly, manage."),
    ):
        assert f"Choose from: {choices}" in input_errors(response)[pointer]


@pytest.mark.parametrize("number", ["9" * 5_000, "-" + "9" * 5_000])
def test_a_huge_number_is_refused_with_a_clear_message(ann: api.Client, number: str) -> None:
    response = ann.post("missions", f'{{"params": {{"n": {number}}}}}'.encode())
    assert response.status_code == 400
    assert response.json()["detail"] == "The body is not JSON: a number has more than 4,300 digits."
    for text in (f"mission: x\npriority: {number}\nsorties: {{}}", f'{{"mission": "x", "priority": {number}}}'):
        assert "set_int_max" not in ann.post("plans/check", {"plan": text}).content.decode()
