"""Actions in the admin use the operations; refusals are shown, and users without permission are refused."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from agents import operations as agents
from agents.models import Agent, AgentType, Node
from fleet.access.models import Key, Session
from fleet.admin import pages
from fleet.audit.models import Entry
from fleet.events.models import Event
from missions.models import Sortie
from tests.support import api, fleet, web

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_a_mission_is_paused_resumed_cancelled_and_retried() -> None:
    boss, mission = web.superuser(), fleet.launch({"one": {}})
    assert "Paused: 1" in web.run_action(boss, "pause", mission)
    assert (fleet.state(mission.id), fleet.states(mission.id)) == ("paused", {"one": "ready"})
    assert "Resumed: 1" in web.run_action(boss, "resume", mission)
    assert fleet.state(mission.id) == "running"
    assert "Cancelled: 1" in web.run_action(boss, "cancel", mission)
    assert (fleet.state(mission.id), fleet.states(mission.id)) == ("cancelled", {"one": "cancelled"})
    assert Event.objects.get(kind="mission.cancelling").data["reason"] == "By boss in the admin."
    assert "Reopened: 1" in web.run_action(boss, "retry", mission)
    assert fleet.state(mission.id) == "running"


def test_refused_missions_are_reported_and_the_others_are_changed() -> None:
    boss, ended_mission, running_mission = web.superuser(), web.ended_mission(), fleet.launch({"one": {}})
    page = web.run_action(boss, "pause", ended_mission, running_mission)
    assert f"({ended_mission.ref}): The mission has ended (failed); it cannot be paused." in page
    assert "Paused: 1" in page
    assert (fleet.state(ended_mission.id), fleet.state(running_mission.id)) == ("failed", "paused")


def test_a_sortie_is_cancelled_and_retried() -> None:
    boss = web.superuser()
    mission = fleet.launch({"one": {}, "two": {"needs": ["one"]}, "apart": {}})
    item = Sortie.objects.get(key="one")
    assert "Cancelled: 1" in web.run_action(boss, "cancel", item)
    assert fleet.states(mission.id) == {"one": "cancelled", "two": "skipped", "apart": "queued"}
    assert "Reopened: 1" in web.run_action(boss, "retry", item)
    assert "cancelled" not in fleet.states(mission.id).values()
    assert "can be retried" in web.run_action(boss, "retry", Sortie.objects.get(key="apart"))


def test_users_who_may_only_view_cannot_act() -> None:
    mission = fleet.launch({"one": {}})
    clerk = web.staff("view_mission")
    assert 'value="cancel"' not in clerk.get(reverse("admin:missions_mission_changelist")).content.decode()
    web.run_action(clerk, "cancel", mission)
    assert fleet.state(mission.id) == "running"


def test_staff_with_the_permission_to_change_missions_may_act() -> None:
    mission = fleet.launch({"one": {}})
    assert "Paused: 1" in web.run_action(web.staff("view_mission", "change_mission"), "pause", mission)


def test_users_with_the_permission_cordon_and_uncordon_nodes() -> None:
    node = agents.join(name="a host", pid=1, start_time=0.0)
    boss = web.superuser()
    web.run_action(web.staff("view_node"), "cordon", node)
    assert not Node.objects.get().cordoned
    assert "Cordoned: 1" in web.run_action(boss, "cordon", node)
    assert Node.objects.get().cordoned
    assert Event.objects.get(kind="node.cordoned").data == {"name": "a host", "why": "By boss in the admin."}
    assert "Uncordoned: 1" in web.run_action(boss, "uncordon", node)
    assert not Node.objects.get().cordoned


@pytest.mark.parametrize(
    "field, submitted_text",
    [("prompt_argv", "[1]"), ("prompt_argv", '"claude -p"'), ("prompt_argv", '[""]'), ("env_allow", '["A B"]')],
)
def test_an_agent_type_accepts_only_lists_of_texts(field: str, submitted_text: str) -> None:
    page = reverse("admin:agents_agenttype_change", args=["backend"])
    form = {
        "description": "x",
        "concurrency": 3,
        "agents": 1,
        "env_allow": "[]",
        "prompt_argv": "[]",
        field: submitted_text,
    }
    assert "Pass a JSON list of strings" in web.superuser().post(page, form).content.decode()
    assert AgentType.objects.get(name="backend").concurrency != 3


def test_an_agent_type_can_be_added_and_edited_but_not_renamed_or_deleted() -> None:
    boss = web.superuser()
    form = {
        "concurrency": 3,
        "agents": 1,
        "max_agents": 0,
        "max_running": 0,
        "memory_mb": 0,
        "disk_mb": 0,
        "max_duration_s": 0,
        "env_allow": '["HTTPS_PROXY"]',
        "prompt_argv": '["cat", "-"]',
        "enabled": "on",
    }
    page = reverse("admin:agents_agenttype_change", args=["backend"])
    assert boss.post(page, {**form, "name": "other"}).status_code == 302
    backend = AgentType.objects.get(name="backend")
    assert (backend.concurrency, backend.prompt_argv, backend.env_allow) == (3, ["cat", "-"], ["HTTPS_PROXY"])
    entry = Entry.objects.filter(kind="agenttype.changed").order_by("-id")[0]
    assert entry.before is not None
    assert entry.after is not None
    assert (entry.before["prompt_argv"], entry.after["prompt_argv"]) == ([], ["cat", "-"])
    assert not AgentType.objects.filter(name="other").exists()
    assert boss.post(reverse("admin:agents_agenttype_add"), {**form, "name": "design"}).status_code == 302
    assert AgentType.objects.get(name="design").concurrency == 3
    assert boss.post(reverse("admin:agents_agenttype_delete", args=["design"]), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("act_of", ["list", "page"])
def test_destructive_actions_ask_first_and_require_post(act_of: str) -> None:
    boss, mission = web.superuser(), fleet.launch({"one": {}})
    if act_of == "list":
        address = reverse("admin:missions_mission_changelist")
        request = boss.post(address, {"action": "cancel", "_selected_action": [str(mission.id)]}).content.decode()
        form = {"action": "cancel", "_selected_action": [str(mission.id)], "confirmed": "yes"}
    else:
        address = reverse("admin:missions_mission_cancel_button", args=[mission.id])
        request = boss.get(address).content.decode()
        form = {"_form_submitted": "True"}
    assert "Running sorties are stopped; no more sorties start." in request
    assert fleet.state(mission.id) == "running"
    assert boss.post(address, form).status_code == 302
    assert fleet.state(mission.id) == "cancelled"


@pytest.mark.parametrize("key", ["-1", "* * *", "{}", "1e999", "x\0", "9" * 40])
@pytest.mark.parametrize("page", ["missions_mission", "fleet_key", "agents_node"])
def test_a_selection_of_something_else_than_rows_changes_nothing(page: str, key: str) -> None:
    boss, address = web.superuser(), reverse(f"admin:{page}_changelist")
    name = {"missions_mission": "cancel", "fleet_key": "revoke", "agents_node": "cordon"}[page]
    response = boss.post(address, {"action": name, "_selected_action": [key], "confirmed": "yes"}, follow=True)
    assert response.status_code == 200


def test_an_action_changes_a_limited_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_CHANGED", 2)
    boss, missions = web.superuser(), [fleet.launch({"one": {}}) for _ in range(3)]
    address = reverse("admin:missions_mission_changelist")
    form = {"action": "cancel", "confirmed": "yes", "_selected_action": [str(missions[0].id)]}
    for all_rows in ("1", "yes"):
        response = boss.post(address, {**form, "select_across": all_rows}, follow=True)
        assert "An action changes at most 2 rows at once." in response.content.decode()
    assert [fleet.state(mission.id) for mission in missions] == ["running"] * 3
    boss.post(address, form)
    assert [fleet.state(mission.id) for mission in missions] == ["cancelled", "running", "running"]


@pytest.mark.parametrize("key", ["*", "-1", "x\0", "9" * 40])
def test_an_unknown_row_leads_to_the_list(key: str) -> None:
    boss = web.superuser()
    page = reverse("admin:missions_mission_change", args=[key])
    assert boss.get(page, {"_to_field": ""}).status_code == 302
    button = reverse("admin:missions_mission_cancel_button", args=[key])
    assert boss.post(button, {"_form_submitted": "True"}).status_code == 302


def test_the_page_of_a_mission_offers_the_actions_that_are_possible_and_permitted() -> None:
    mission = fleet.launch({"one": {}})
    page = reverse("admin:missions_mission_change", args=[mission.id])

    def offered(client: Client) -> set[str]:
        text = client.get(page).content.decode()
        return {name for name in ("pause", "resume", "retry", "cancel") if f"/{name}_button" in text}

    boss, clerk = web.superuser(), web.staff("view_mission")
    assert offered(boss) == {"pause", "cancel"}
    assert offered(clerk) == set()
    cancel = reverse("admin:missions_mission_cancel_button", args=[mission.id])
    assert clerk.post(cancel, {"_form_submitted": "True"}).status_code == 403
    web.run_action(boss, "pause", mission)
    assert offered(boss) == {"resume", "cancel"}
    web.run_action(boss, "cancel", mission)
    assert offered(boss) == {"retry"}


def test_agents_are_spawned_and_ended() -> None:
    node = agents.join(name="a host", pid=1, start_time=0.0)
    boss = web.superuser()
    spawn = reverse("admin:agents_agent_spawn_button")
    assert web.staff("view_agent").post(spawn, {"_form_submitted": "True"}).status_code == 403
    form = {"_form_submitted": "True", "type": "backend", "count": 2, "node": str(node.id)}
    assert boss.post(spawn, form).status_code == 302
    first, second = Agent.objects.order_by("id")
    assert "Ordered to drain: 1" in web.run_action(boss, "drain", first)
    assert (
        boss.post(reverse("admin:agents_agent_stop_button", args=[second.id]), {"_form_submitted": "True"}).status_code
        == 302
    )
    assert list(Agent.objects.order_by("id").values_list("order", flat=True)) == ["drain", "now"]
    kinds = Entry.objects.filter(actor="user:boss").values_list("kind", flat=True)
    assert {"agent.spawn", "agent.drain", "agent.now"} <= set(kinds)


def test_a_key_is_revoked_and_a_session_ended() -> None:
    boss, ann = web.superuser(), api.person("ann")
    program = api.machine(ann.user, "read")
    assert "Revoked: 1" in web.run_action(boss, "revoke", Key.objects.get())
    assert "Ended: 1" in web.run_action(boss, "end", Session.objects.get())
    assert (program.get("me").status_code, ann.get("me").status_code) == (401, 401)
