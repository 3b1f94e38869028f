"""The admin shows checkpoints, recovery plans and changes, and acts only after a confirmation."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from checkpoints import operations
from checkpoints.files import storage
from checkpoints.models import Checkpoint
from fleet.audit.models import Entry
from missions.models import Mission
from tests.support import fleet, web

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

PAGE = "admin:checkpoints_checkpoint_{}"


def address(page: str, row: Checkpoint, mission: Mission | None = None) -> str:
    return reverse(PAGE.format(page), args=[row.id]) + (f"?mission={mission.ref}" if mission else "")


def content(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return unescape(response.content.decode())


def act(client: Client, name: str, *rows: Checkpoint) -> str:
    return unescape(web.run_action(client, name, *rows))


def ended_mission() -> tuple[Mission, Checkpoint, Checkpoint]:
    """A mission that has ended, with a checkpoint of its start and one of its end."""
    mission = fleet.launch({"a": {"with": {"result": "<b>x</b>"}}, "b": {"needs": ["a"]}})
    first = operations.capture(missions=[mission.id], name="start")
    engine = fleet.engine()
    fleet.run_to_end(engine, mission)
    engine.stop(within_s=5)
    return mission, first, operations.capture(missions=[mission.id], note="at the end")


def digest(page: str) -> str:
    match = re.search(r'name="plan" value="(\w+)"', page)
    assert match
    return match[1]


def test_the_page_has_context_plan_and_differences() -> None:
    mission, first, last = ended_mission()
    boss = web.superuser()
    page = content(boss, address("change", first))
    for sentence in (
        "A test: 0 of 2 sorties have ended",
        "to run from the start",
        "Finished work would be replaced: a, b.",
    ):
        assert sentence in page
    assert "Sorties: 2 changed." in page
    assert "It has no parent." in page
    assert "<b>x</b>" not in boss.get(address("change", first)).content.decode()
    assert reverse("admin:missions_mission_change", args=[mission.id]) in page
    page = content(boss, address("change", last))
    assert "Nothing has changed." in page
    assert address("change", first) in page
    Mission.objects.all().delete()
    page = content(boss, address("change", first))
    assert "to be created again" in page
    assert "(removed)" in page
    assert "(removed)" in content(boss, reverse(PAGE.format("changelist")))


def test_the_list_is_searched_by_missions_and_linked_from_their_pages() -> None:
    mission, first, last = ended_mission()
    other = operations.capture(missions=[fleet.launch({"c": {}}).id])
    boss = web.superuser()
    link = reverse(PAGE.format("changelist")) + f"?q={mission.ref}"
    assert link in content(boss, reverse("admin:missions_mission_change", args=[mission.id]))
    page = content(boss, link)
    assert first.ref in page
    assert last.ref in page
    assert other.ref not in page
    assert other.ref in content(boss, reverse(PAGE.format("changelist")) + f"?q={other.ref}")


def test_a_restore_shows_its_plan_and_does_exactly_that() -> None:
    mission, first, _ = ended_mission()
    boss = web.superuser()
    url = address("restore_button", first)
    page = content(boss, url)
    assert "Restore, and leave it paused" in page
    assert fleet.state(mission.id) == "succeeded"
    refusal = boss.post(url, {"plan": "0" * 16, "restore": ""}).content.decode()
    assert "The mission has changed" in refusal
    assert fleet.state(mission.id) == "succeeded"
    response = boss.post(url, {"plan": digest(page), "restore": ""})
    assert response["Location"] == reverse("admin:missions_mission_change", args=[mission.id])
    assert fleet.state(mission.id) == "paused"
    assert Checkpoint.objects.get(trigger="restore").created_by == User.objects.get(username="boss")
    assert Entry.objects.filter(actor="user:boss", kind="checkpoint.restore").exists()
    page = content(boss, url)
    boss.post(url, {"plan": digest(page), "resume": ""})
    assert fleet.state(mission.id) == "running"


def test_high_risks_must_be_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    mission = fleet.launch({"a": {}}, folder=str(folder))
    checkpoint = operations.capture(missions=[mission.id])
    folder.rmdir()
    boss = web.superuser()
    url = address("restore_button", checkpoint)
    page = content(boss, url)
    assert 'name="force" required' in page
    assert "does not exist on this host" in boss.post(url, {"plan": digest(page), "restore": ""}).content.decode()
    assert fleet.state(mission.id) == "running"
    assert boss.post(url, {"plan": digest(page), "restore": "", "force": "on"}).status_code == 302
    assert fleet.state(mission.id) == "paused"


def test_a_blocked_restore_has_no_button() -> None:
    mission, first, _ = ended_mission()
    Mission.objects.filter(id=mission.id).update(state="cancelling", finished_at=None)
    page = content(web.superuser(), address("restore_button", first))
    assert "It cannot be restored now." in page
    assert 'type="submit" name="restore"' not in page


def test_a_fork_is_created_and_its_mission_shows_its_origin() -> None:
    mission, _, last = ended_mission()
    boss = web.superuser()
    url = address("fork_button", last)
    assert "a, b" in content(boss, url)
    assert "no sortie" in boss.post(url, {"sorties": "nobody", "params": "{}"}).content.decode()
    assert "Pass a JSON object." in boss.post(url, {"params": "[1]"}).content.decode()
    response = boss.post(url, {"sorties": "b\n", "params": "{}", "name": "Again", "start": "on"})
    forked = Mission.objects.get(name="Again")
    assert response["Location"] == reverse("admin:missions_mission_change", args=[forked.id])
    assert fleet.states(forked.id)["a"] == "succeeded"
    assert (forked.state, forked.created_by) == ("running", User.objects.get(username="boss"))
    page = content(boss, response["Location"])
    assert f"?q={mission.ref}" in page
    assert f"?q={last.ref}" in page


def test_one_of_several_missions_can_be_chosen() -> None:
    first, second = fleet.launch({"a": {}}), fleet.launch({"b": {}})
    whole = operations.capture_all()
    boss = web.superuser()
    page = content(boss, address("change", whole))
    assert "Choose one of its missions above" in page
    assert "mission would be" not in page
    assert address("restore_button", whole, second) in page
    assert "to its state in" in content(boss, address("restore_button", whole, second))
    assert boss.get(address("restore_button", whole)).status_code == 302
    url = address("restore_button", whole, second)
    boss.post(url, {"plan": digest(content(boss, url)), "restore": ""})
    assert (fleet.state(first.id), fleet.state(second.id)) == ("running", "paused")


def test_checkpoints_are_verified_kept_and_deleted() -> None:
    _, first, last = ended_mission()
    boss = web.superuser()
    assert "Verified 2 checkpoints: every byte is intact." in act(boss, "verify", first, last)
    assert "Kept: 1." in act(boss, "keep", first)
    assert Checkpoint.objects.get(id=first.id).keep
    assert "No longer kept: 1." in act(boss, "unkeep", first)
    assert not Checkpoint.objects.get(id=first.id).keep
    confirmation = boss.post(
        reverse(PAGE.format("changelist")), {"action": "remove", "_selected_action": [str(first.id)]}
    )
    assert "Delete these checkpoints?" in confirmation.content.decode()
    assert Checkpoint.objects.count() == 2
    assert "Deleted: 1." in act(boss, "remove", first)
    assert boss.get(address("remove_button", last)).status_code == 200
    response = boss.post(address("remove_button", last), {"_form_submitted": "True"})
    assert response["Location"] == reverse(PAGE.format("changelist"))
    assert not Checkpoint.objects.exists()
    kinds = Entry.objects.filter(actor="user:boss").values_list("kind", flat=True)
    assert {"checkpoint.keep", "checkpoint.delete"} <= set(kinds)


def test_damage_is_shown_where_the_content_would_be() -> None:
    _, first, last = ended_mission()
    boss = web.superuser()
    storage.remove_blob(storage.read_manifest(first.ref).missions[0].mission.blob)
    assert f"is missing. Affected: {first.ref}" in act(boss, "verify", first)
    assert "is damaged" in content(boss, address("change", first))
    assert boss.get(address("restore_button", first)).status_code == 302
    storage.remove_manifest(last.ref)
    assert "The manifest" in content(boss, address("change", last))


def test_users_without_change_permission_cannot_act() -> None:
    mission, first, _ = ended_mission()
    clerk = web.staff("view_checkpoint")
    page = content(clerk, address("change", first))
    assert not re.search(r"/(restore|fork|verify|keep|remove)_button", page)
    operator = web.staff("view_checkpoint", "change_checkpoint", name="operator")
    page = content(operator, address("change", first))
    assert "/verify_button" in page
    assert not re.search(r"/(restore|fork)_button", page)
    for client in (clerk, operator):
        for name in ("restore_button", "fork_button"):
            assert client.post(address(name, first), {"restore": ""}).status_code == 403
    act(clerk, "remove", first)
    assert Checkpoint.objects.filter(id=first.id).exists()
    pilot = web.staff("view_checkpoint", "change_checkpoint", "change_mission", "view_mission", name="pilot")
    page = content(pilot, address("restore_button", first))
    assert "plan.execute" in pilot.post(address("restore_button", first), {"plan": digest(page)}).content.decode()
    assert Entry.objects.filter(actor="user:pilot", kind="denied").exists()
    assert fleet.state(mission.id) == "succeeded"
