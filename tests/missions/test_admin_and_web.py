"""The web process: health, readiness, metrics, the admin's pages and actions, downloads."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from agents.models import AgentType
from missions import operations
from missions.models import Attempt, Mission, Sortie
from missions.states import MissionState
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

PAGES = ("missions_mission", "missions_sortie", "missions_attempt", "missions_artifact", "agents_agent", "agents_node",
         "agents_agenttype", "fleet_event")  # fmt: skip


@pytest.fixture
def admin(django_user_model: Any) -> Client:
    client = Client()
    client.force_login(django_user_model.objects.create_superuser("boss", password="long enough for this"))
    return client


@pytest.fixture
def flown() -> Mission:
    """A mission with one sortie that succeeded, one that failed, and one that was skipped."""
    mission = fleet.launch({"good": {}, "bad": {"with": {"fail": "it broke"}}, "late": {"needs": ["bad"]}})
    engine = fleet.engine()
    fleet.run_to_end(engine, mission)
    engine.stop(within_s=5)
    mission.refresh_from_db()
    return mission


@pytest.mark.parametrize("page", PAGES)
def test_every_list_opens(admin: Client, flown: Mission, page: str) -> None:
    assert admin.get(reverse(f"admin:{page}_changelist")).status_code == 200


def test_nobody_adds_or_changes_a_mission_by_hand(admin: Client, flown: Mission) -> None:
    assert admin.get(reverse("admin:missions_mission_add")).status_code == 403
    page = admin.get(reverse("admin:missions_mission_change", args=[flown.id])).content.decode()
    assert "it broke" in page
    assert 'name="_save"' not in page
    sortie = Sortie.objects.get(key="late")
    assert (
        "skipped because bad" in admin.get(reverse("admin:missions_sortie_change", args=[sortie.id])).content.decode()
    )
    attempt = Attempt.objects.get(sortie__key="bad")
    assert admin.get(reverse("admin:missions_attempt_change", args=[attempt.id])).status_code == 200


def test_a_typed_id_finds_its_row(admin: Client, flown: Mission) -> None:
    page = admin.get(reverse("admin:missions_mission_changelist"), {"q": flown.ref}).content.decode()
    assert flown.name in page
    assert admin.get(reverse("admin:missions_sortie_changelist"), {"q": "srt_nonsense"}).status_code == 200


def test_actions_do_what_the_commands_do_and_say_why_they_cannot(admin: Client, flown: Mission) -> None:
    def act(name: str) -> str:
        data = {"action": name, "_selected_action": [str(flown.id)]}
        return admin.post(reverse("admin:missions_mission_changelist"), data, follow=True).content.decode()

    assert "cannot become paused" in act("pause")
    assert "Reopened: 1" in act("retry")
    assert fleet.state(flown.id) == "running"
    assert "Paused: 1" in act("pause")
    assert "Resumed: 1" in act("resume")
    act("cancel")
    assert fleet.state(flown.id) == "cancelled"


def test_a_type_with_a_prompt_that_is_no_list_of_texts_is_refused(admin: Client) -> None:
    url = reverse("admin:agents_agenttype_change", args=["backend"])
    given = {"name": "backend", "description": "x", "concurrency": 2, "agents": 1, "enabled": "on", "env_allow": "[]"}
    assert "Give a JSON list of texts" in admin.post(url, {**given, "prompt_argv": "[1]"}).content.decode()
    assert admin.post(url, {**given, "prompt_argv": '["cat"]'}).status_code == 302
    assert AgentType.objects.get(name="backend").prompt_argv == ["cat"]
    AgentType.objects.filter(name="backend").update(prompt_argv=[])


def test_a_created_mission_waits_until_it_is_resumed() -> None:
    mission = fleet.launch({"one": {}})
    operations.pause(mission=mission.id)
    assert fleet.states(mission.id) == {"one": "ready"}
    operations.resume(mission=mission.id)
    fleet.beat()
    assert fleet.states(mission.id) == {"one": "queued"}
    assert MissionState(fleet.state(mission.id)) is MissionState.RUNNING
