"""Running a user's own plan requires plan.execute, at launch and at every later start. Templates do not require it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.postgres.functions import TransactionNow  # the start of the test, which is one transaction
from django.test import Client
from django.urls import reverse

from agents.models import AgentType
from fleet import ids
from fleet.access import operations as access
from fleet.access.models import Role
from fleet.access.rules import Scope
from fleet.audit.models import Entry
from missions import operations
from missions.models import Mission, Sortie, Template
from missions.operations import external_agents
from tests.support import api, fleet, web

pytestmark = pytest.mark.django_db

TEMPLATE = '{mission: Greet, sorties: {one: {agent: backend, run: ["echo", "hello"]}}}'


@pytest.fixture
def ann() -> api.Client:
    """A user with plan.execute."""
    return api.person("ann", can_execute=True)


def take_away(ann: api.Client) -> None:
    access.set_execute(user=ann.user, allowed=False)


def launch(client: api.Client, **body: Any) -> Mission:
    response = client.post("missions", body)
    assert response.status_code == 201, response.content
    return Mission.objects.get(id=ids.decode(ids.MISSION, response.json()["id"]))


def cancel(mission: Mission) -> Sortie:
    """Cancel a mission, so that it has ended and can be retried."""
    operations.cancel(mission=mission.id)
    return Sortie.objects.get(mission=mission)


def orders(mission: Mission) -> list[str]:
    return [f"missions/{mission.ref}/retry", f"sorties/{Sortie.objects.get(mission=mission).ref}/retry"]


def test_a_check_says_that_a_plan_with_only_prompts_and_a_workspace_requires_the_permission(ann: api.Client) -> None:
    AgentType.objects.create(name="coder", prompt_argv=["cat"], agents=0)
    prompts = {"mission": "Edit", "sorties": {"edit": {"agent": "coder", "prompt": "Edit the README"}}}
    for plan, expected in ((prompts, False), ({**prompts, "workspace": {"repository": "/srv/app"}}, True)):
        checked = ann.post("plans/check", {"plan": plan})
        assert (checked.status_code, checked.json()["runs_code"]) == (200, expected)


def test_without_the_permission_a_user_cannot_start_their_own_mission(ann: api.Client) -> None:
    new_mission, paused = launch(ann, plan=api.PLAN, start=False), launch(ann, plan=api.PLAN)
    ann.post(f"missions/{paused.ref}/pause")
    take_away(ann)
    machine = api.machine(ann.user, Scope.OPERATE)
    for client in (ann, machine):
        for mission in (new_mission, paused):
            response = client.post(f"missions/{mission.ref}/resume")
            assert (response.status_code, response.json()["code"]) == (403, "forbidden")
            assert "plan.execute" in response.json()["detail"]
    assert (fleet.state(new_mission.id), fleet.state(paused.id)) == ("planned", "paused")
    denials = list(
        Entry.objects.filter(at__gte=TransactionNow(), kind="denied")
        .order_by("id")
        .values_list("actor", "outcome", "subject", "data")
    )
    assert [(item[0], item[2]) for item in denials[:2]] == [
        ("user:ann", f"/api/v1/missions/{mission.ref}/resume") for mission in (new_mission, paused)
    ]
    assert denials[2][0] == f"key:{machine.bearer[:12]}"
    assert {item[1] for item in denials} == {"denied"}
    assert denials[0][3]["action"] == "missions.resume"


def test_without_the_permission_a_user_cannot_retry_it_or_one_of_its_sorties(ann: api.Client) -> None:
    ended_mission = launch(ann, plan=api.PLAN)
    cancel(ended_mission)
    sorties = {"a": {"agent": "backend", "run": "true"}, "b": {"agent": "backend", "run": "true"}}
    running = launch(ann, plan={"mission": "x", "sorties": sorties})
    a = Sortie.objects.get(mission=running, key="a")
    operations.cancel_sortie(sortie=a.id)
    take_away(ann)
    for order in (*orders(ended_mission), f"sorties/{a.ref}/retry"):
        response = ann.post(order)
        assert (response.status_code, response.json()["code"]) == (403, "forbidden"), order
    assert (fleet.state(ended_mission.id), fleet.states(ended_mission.id)) == ("cancelled", {"one": "cancelled"})
    assert fleet.states(running.id)["a"] == "cancelled"


def test_with_the_permission_restored_they_start_again(ann: api.Client) -> None:
    new_mission, ended_mission = launch(ann, plan=api.PLAN, start=False), launch(ann, plan=api.PLAN)
    cancel(ended_mission)
    take_away(ann)
    access.set_execute(user=ann.user, allowed=True)
    assert ann.post(f"missions/{new_mission.ref}/resume").status_code == 202
    assert ann.post(orders(ended_mission)[0]).status_code == 202


def test_a_running_mission_continues_without_the_permission_and_can_be_paused_and_cancelled(ann: api.Client) -> None:
    mission = launch(ann, plan=api.PLAN)
    take_away(ann)
    agent = external_agents.register(agent_type="backend", by=None)
    (lease,) = external_agents.claim(agent=agent.id)
    external_agents.complete(token=lease.token)
    assert fleet.state(mission.id) == "succeeded"
    other = mission_launched_with_permission(ann)
    assert ann.patch(f"missions/{other.ref}", {"priority": 5}, If_Match="*").status_code == 200
    assert [ann.post(f"missions/{other.ref}/{order}").status_code for order in ("pause", "cancel")] == [202, 202]


def mission_launched_with_permission(ann: api.Client) -> Mission:
    """A mission that ann launched before she lost plan.execute."""
    access.set_execute(user=ann.user, allowed=True)
    mission = launch(ann, plan=api.PLAN)
    take_away(ann)
    return mission


def test_anyone_who_may_launch_a_template_may_start_and_retry_it(ann: api.Client) -> None:
    Template.objects.create(name="greet", text=TEMPLATE)
    eve = api.person("eve")
    take_away(ann)
    for client in (ann, eve):
        mission = launch(client, template="greet", start=False)
        assert client.get(f"missions/{mission.ref}").json()["template"] == "greet"
        assert client.post(f"missions/{mission.ref}/resume").status_code == 202
        for order in orders(mission):
            cancel(mission)
            assert client.post(order).status_code == 202
    Template.objects.all().delete()
    assert ann.post(f"missions/{mission.ref}/pause").status_code == 404  # it belongs to eve
    assert [eve.post(f"missions/{mission.ref}/{order}").status_code for order in ("pause", "resume")] == [202, 202]


def test_prompts_launched_without_the_permission_start_without_it(project: str) -> None:
    AgentType.objects.filter(name="backend").update(prompt_argv=["cat"])
    eve = api.person("eve")
    mission = launch(eve, objective="Say hello.", agent="backend", folder=project, start=False)
    assert eve.post(f"missions/{mission.ref}/resume").status_code == 202
    cancel(mission)
    assert eve.post(orders(mission)[0]).status_code == 202


def test_prompts_launched_with_the_permission_require_it_because_their_agents_may_add_code(
    ann: api.Client, project: str
) -> None:
    AgentType.objects.filter(name="backend").update(prompt_argv=["cat"])
    mission = launch(ann, objective="Say hello.", agent="backend", folder=project, start=False)
    take_away(ann)
    assert ann.post(f"missions/{mission.ref}/resume").status_code == 403
    assert launch(ann, objective="Say hello.", agent="backend", folder=project).can_execute is False


def test_an_admin_can_start_any_mission(ann: api.Client) -> None:
    boss = api.person("boss", Role.ADMIN)
    mission = launch(ann, plan=api.PLAN, start=False)
    take_away(ann)
    assert boss.post(f"missions/{mission.ref}/resume").status_code == 202
    for order in orders(mission):
        cancel(mission)
        assert boss.post(order).status_code == 202


def test_a_former_admin_cannot_start_what_they_launched_as_an_admin() -> None:
    boss, _ = (
        api.person("boss", Role.ADMIN),
        api.person("eve", Role.ADMIN),
    )  # otherwise the last admin could not lose the role
    mission = launch(boss, plan=api.PLAN, start=False)
    access.set_role(user=boss.user, role=Role.USER)
    assert boss.post(f"missions/{mission.ref}/resume").status_code == 403


def test_a_mission_without_a_recorded_template_counts_as_a_users_own_plan() -> None:
    eve, mission = api.person("eve"), fleet.launch({"one": {}})
    Mission.objects.filter(id=mission.id).update(created_by=eve.user)
    eve.post(f"missions/{mission.ref}/pause")
    assert eve.post(f"missions/{mission.ref}/resume").status_code == 403


def test_the_admin_site_requires_the_permission_too_and_audits_denials() -> None:
    mission = fleet.launch({"one": {}})
    operations.pause(mission=mission.id)
    clerk = web.staff("view_mission", "change_mission", "view_sortie", "change_sortie")
    assert "plan.execute" in act(clerk, "resume", mission)
    assert fleet.state(mission.id) == "paused"
    sortie = cancel(mission)
    for row, name in ((mission, "retry"), (sortie, "retry")):
        assert "plan.execute" in act(clerk, name, row)
    assert fleet.states(mission.id) == {"one": "cancelled"}
    denials = (
        Entry.objects.filter(at__gte=TransactionNow(), kind="denied")
        .order_by("id")
        .values_list("actor", "outcome", "subject", "data__action")
    )
    assert list(denials) == [
        ("user:clerk", "denied", row.ref, name)
        for row, name in ((mission, "resume"), (mission, "retry"), (sortie, "retry"))
    ]
    allowed = web.staff("view_mission", "change_mission", "plan_execute", name="chief")
    assert "Reopened: 1" in act(allowed, "retry", mission)


def act(client: Client, name: str, row: Mission | Sortie) -> str:
    page = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_changelist")
    return client.post(page, {"action": name, "_selected_action": [str(row.id)]}, follow=True).content.decode()
