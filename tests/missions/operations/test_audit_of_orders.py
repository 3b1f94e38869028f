"""The audit trail records each order to a mission or a sortie, its caller, and the states before and after."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.postgres.functions import TransactionNow  # the start of the test, which is one transaction
from django.core.management import call_command

from fleet.access.models import Role
from fleet.audit.models import Entry
from missions import operations
from missions.models import Mission, Sortie
from missions.operations import external_agents
from tests.support import api, fleet

pytestmark = pytest.mark.django_db


def last(kind: str) -> tuple[str, int | None, str, Any, Any]:
    entry = Entry.objects.filter(at__gte=TransactionNow(), kind=kind).latest("id")
    return entry.actor, entry.user_id, entry.subject, entry.before, entry.after


def sortie(mission: Mission, key: str) -> Sortie:
    return Sortie.objects.get(mission=mission, key=key)


@pytest.fixture
def boss() -> api.Client:
    return api.person("boss", Role.ADMIN)


def test_a_resume_and_a_retry_record_their_caller_and_the_states(boss: api.Client) -> None:
    actor, mission = ("user:boss", boss.user.id), fleet.launch({"one": {}})
    boss.post(f"missions/{mission.ref}/pause", {"reason": "Lunch."})
    boss.post(f"missions/{mission.ref}/resume")
    paused = {"state": "paused", "reason": "Lunch."}
    assert last("mission.pause") == (*actor, mission.ref, {"state": "running"}, paused)
    assert last("mission.resume") == (*actor, mission.ref, {"state": "paused"}, {"state": "running"})
    boss.post(f"missions/{mission.ref}/cancel")
    boss.post(f"missions/{mission.ref}/retry")
    assert last("mission.retry") == (*actor, mission.ref, {"state": "cancelled"}, {"state": "running"})
    request = Entry.objects.get(at__gte=TransactionNow(), kind="mission.retry")
    assert request.request
    assert request.address


def test_a_retry_of_a_sortie_records_the_states_and_the_number_of_reopened_sorties(boss: api.Client) -> None:
    mission = fleet.launch({"one": {}, "two": {"needs": ["one"]}, "apart": {}})
    item = sortie(mission, "one")
    boss.post(f"sorties/{item.ref}/cancel", {"reason": "Not now."})
    assert last("sortie.cancel")[2:] == (item.ref, {"state": "queued"}, {"state": "cancelled", "reason": "Not now."})
    assert boss.get(f"sorties/{item.ref}").json()["waits_for"] == "It was cancelled: Not now."
    (result,) = boss.get(f"missions/{mission.ref}/events?kind=sortie.cancelled").json()["results"]
    assert result["data"] == {"from": "queued", "why": "Not now."}
    assert boss.post(f"sorties/{item.ref}/retry").status_code == 202
    item.refresh_from_db()
    result = {"state": item.state, "reopened": 2}
    assert last("sortie.retry") == ("user:boss", boss.user.id, item.ref, {"state": "cancelled"}, result)


def test_cancelling_a_running_sortie_records_the_request() -> None:
    mission = fleet.launch({"one": {}})
    external_agents.claim(agent=external_agents.register(agent_type="backend", by=None).id)
    operations.cancel_sortie(sortie=sortie(mission, "one").id)
    assert last("sortie.cancel")[3:] == ({"state": "running"}, {"cancel_requested": True})


def test_a_refused_order_records_no_success(boss: api.Client) -> None:
    mission = fleet.launch({"one": {}})
    item = sortie(mission, "one")
    for order in (f"missions/{mission.ref}/resume", f"missions/{mission.ref}/retry", f"sorties/{item.ref}/retry"):
        assert boss.post(order).status_code == 409
    assert not Entry.objects.filter(
        at__gte=TransactionNow(), kind__in=["mission.resume", "mission.retry", "sortie.retry"]
    ).exists()


def test_an_order_by_command_is_recorded_as_the_operators() -> None:
    mission = fleet.launch({"one": {}})
    operations.pause(mission=mission.id)
    call_command("fleet_mission", "resume", mission.ref)
    assert last("mission.resume")[0].startswith("command:")


def test_actions_of_an_external_agent_are_recorded_with_its_user(boss: api.Client) -> None:
    mission = fleet.launch({"one": {}, "two": {}, "three": {}})
    fleet.open_to_external_agents()
    agent = boss.post("agents", {"type": "backend", "concurrency": 3}).json()["id"]
    assert last("agent.register") == ("user:boss", boss.user.id, agent, None, {"type": "backend", "concurrency": 3})
    leases = boss.post("sorties/claim", {"agent": agent, "count": 3}).json()["leases"]
    assert Entry.objects.filter(at__gte=TransactionNow(), kind="sortie.claim", data__agent=agent).count() == 3
    first, second = (lease["sortie"] for lease in leases[:2])
    boss.post(f"sorties/{first}/complete", {"token": leases[0]["token"], "result": 1})
    boss.post(f"sorties/{second}/fail", {"token": leases[1]["token"], "error": "It broke."})
    boss.post(f"agents/{agent}/leave")
    outcome = Entry.objects.filter(
        at__gte=TransactionNow(), kind__in=["sortie.complete", "sortie.fail", "agent.leave"]
    ).order_by("id")
    assert [(entry.actor, entry.kind, entry.subject) for entry in outcome] == [
        ("user:boss", "sortie.complete", first), ("user:boss", "sortie.fail", second), ("user:boss", "agent.leave", agent),
    ]  # fmt: skip
    assert sorted(fleet.states(mission.id).values()) == ["failed", "queued", "succeeded"]
