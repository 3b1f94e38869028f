"""Diffs, conflicts, resolve, merge and discard over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.access.models import Role
from fleet.audit.models import Entry
from missions.models import Mission, Sortie
from tests.support import api, fleet, repository
from tests.support.repository import Repository
from tests.support.work import conflicting

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    return repository.create(tmp_path / "project", {"app.py": "one\ntwo\nthree\n"})


def own(mission: Mission, client: api.Client) -> str:
    Mission.objects.filter(id=mission.id).update(created_by=client.user)
    return mission.ref


def late(mission: Mission) -> str:
    return Sortie.objects.get(mission=mission, key="late").ref


def test_a_mission_and_a_sortie_show_their_workspace_and_change(project: Repository) -> None:
    ann = api.person("ann")
    mission = conflicting.landed_mission(project)
    ref = own(mission, ann)
    body = ann.get(f"missions/{ref}").json()
    assert body["workspace"]["branch"] == f"fleet/{ref}"
    (item,) = ann.get(f"missions/{ref}/sorties").json()["results"]
    assert (item["change"]["state"], item["change"]["files"]) == ("landed", 1)
    assert ann.get(f"sorties/{item['id']}").json()["change"] == item["change"]
    plain = own(fleet.launch({"one": {}}), ann)
    assert ann.get(f"missions/{plain}").json()["workspace"] is None
    assert ann.get(f"missions/{plain}/sorties").json()["results"][0]["change"] is None


def test_missions_and_sorties_have_a_diff(project: Repository) -> None:
    ann = api.person("ann")
    mission = conflicting.waiting_for_a_person(project)
    ref = own(mission, ann)
    diff = ann.get(f"missions/{ref}/diff").json()
    assert "+early" in diff["patch"]
    assert diff["files"] == [{"path": "app.py", "added": 1, "removed": 1}]
    assert [(work["key"], work["state"]) for work in diff["unmerged"]] == [("late", "conflicted")]
    assert ann.get(f"sorties/{late(mission)}/diff").json() == diff["unmerged"][0]
    assert ann.get(f"missions/{own(fleet.launch({'one': {}}), ann)}/diff").status_code == 404


def test_a_patch_of_more_than_a_megabyte_is_cut_off(project: Repository) -> None:
    ann = api.person("ann")
    ref = own(conflicting.landed_mission(project, run="seq 1 300000 > numbers.txt"), ann)
    diff = ann.get(f"missions/{ref}/diff").json()
    assert (len(diff["patch"]), diff["truncated"]) == (1_000_000, True)
    assert diff["files"] == [{"path": "numbers.txt", "added": 300_000, "removed": 0}]


def test_conflicts_are_listed_and_filtered(project: Repository) -> None:
    ann = api.person("ann")
    mission = conflicting.waiting_for_a_person(project)
    ref = own(mission, ann)
    (conflict,) = ann.get(f"missions/{ref}/conflicts").json()["results"]
    assert (conflict["key"], conflict["others"], conflict["outcome"]) == ("late", ["early"], "manual")
    for query, number in (("outcome=manual", 1), ("outcome=rework", 0), ("sortie=late", 1), ("sortie=early", 0)):
        assert len(ann.get(f"missions/{ref}/conflicts?{query}").json()["results"]) == number
    assert ann.get(f"missions/{ref}/conflicts?outcome=x").status_code == 422


def test_a_conflict_is_resolved_once_for_one_idempotency_key(project: Repository) -> None:
    ann = api.person("ann", can_execute=True)
    mission = conflicting.waiting_for_a_person(project)
    own(mission, ann)
    first = ann.post(f"sorties/{late(mission)}/resolve", {"decision": "retry"}, Idempotency_Key="once")
    assert (first.status_code, first.json()["state"], first.headers["Location"]) == (
        202,
        "ready",
        f"/api/v1/sorties/{late(mission)}",
    )
    replay = ann.post(f"sorties/{late(mission)}/resolve", {"decision": "retry"}, Idempotency_Key="once")
    assert (replay.status_code, replay.json()) == (202, first.json())
    assert replay.headers["Idempotency-Replayed"] == "true"
    assert ann.post(f"sorties/{late(mission)}/resolve", {"decision": "retry"}).status_code == 409
    assert Entry.objects.get(kind="sortie.resolve", subject=late(mission)).actor == "user:ann"
    assert fleet.run_mission(mission) == "succeeded"


def test_a_users_own_version_resolves_a_conflict(project: Repository) -> None:
    ann = api.person("ann", can_execute=True)
    mission = conflicting.waiting_for_a_person(project)
    ref = own(mission, ann)
    assert ann.post(f"missions/{ref}/merge").json()["outcome"] == "created"
    project.git("switch", "--quiet", "--create", "fix", f"fleet/{ref}")
    project.commit({"app.py": "one\nfixed\nthree\n"})
    response = ann.post(f"sorties/{late(mission)}/resolve", {"decision": "from", "ref": "fix"})
    assert (response.status_code, response.json()["change"]["state"]) == (202, "committed")
    assert fleet.run_mission(mission) == "succeeded"
    assert repository.branch(mission).read("app.py") == "one\nfixed\nthree\n"


@pytest.mark.parametrize(
    "body", [{}, {"decision": "x"}, {"decision": "from"}, {"decision": "drop", "ref": "x"}, {"retry": True}]
)
def test_a_decision_must_be_complete(project: Repository, body: dict[str, object]) -> None:
    ann = api.person("ann", can_execute=True)
    mission = fleet.launch({"late": {}})
    own(mission, ann)
    assert ann.post(f"sorties/{late(mission)}/resolve", body).status_code == 422


def test_dropping_a_change_starts_no_code_and_needs_no_permission_for_it(project: Repository) -> None:
    ann = api.person("ann")
    mission = conflicting.waiting_for_a_person(project)
    own(mission, ann)
    assert ann.post(f"sorties/{late(mission)}/resolve", {"decision": "retry"}).status_code == 403
    assert ann.post(f"sorties/{late(mission)}/resolve", {"decision": "from", "ref": "main"}).status_code == 403
    response = ann.post(f"sorties/{late(mission)}/resolve", {"decision": "drop"})
    assert (response.status_code, response.json()["state"]) == (202, "cancelled")


def test_a_merge_is_repeated_safely_and_another_branch_needs_plan_execute(project: Repository) -> None:
    ann, mission = api.person("ann"), conflicting.landed_mission(project)
    ref = own(mission, ann)
    merge_response = ann.post(f"missions/{ref}/merge", Idempotency_Key="once").json()
    assert merge_response["outcome"] == "created"
    assert project.git("rev-parse", merge_response["branch"]) == merge_response["commit"]
    assert ann.post(f"missions/{ref}/merge", Idempotency_Key="once").json() == merge_response
    assert ann.post(f"missions/{ref}/merge").json()["outcome"] == "unchanged"
    assert ann.post(f"missions/{ref}/merge", {"into": "next"}).status_code == 403
    executing = api.person("root", Role.ADMIN)
    assert executing.post(f"missions/{ref}/merge", {"into": "next"}).json()["outcome"] == "created"
    response = executing.post(f"missions/{ref}/merge", {"into": "main"})
    assert response.status_code == 409
    assert response.json()["detail"].endswith("Choose another branch (`into`).")
    assert executing.post(f"missions/{ref}/merge", {"into": "a..b"}).status_code == 422


def test_discard_without_confirmation_only_lists_changes(project: Repository) -> None:
    ann, mission = api.person("ann"), conflicting.landed_mission(project)
    ref = own(mission, ann)
    body = ann.post(f"missions/{ref}/discard").json()
    assert (body["discarded"], [commit["sortie"] for commit in body["unmerged"]["commits"]]) == (False, ["edit"])
    assert repository.branch(mission).tip
    assert ann.post(f"missions/{ref}/discard", {"confirm": True}).json() == {**body, "discarded": True}
    assert ann.get(f"missions/{ref}").json()["workspace"]["discarded_at"]
    assert ann.get(f"missions/{ref}/diff").status_code == 409
    assert ann.post(f"missions/{ref}/retry").status_code == 403
    assert Entry.objects.get(kind="mission.discard", subject=ref).actor == "user:ann"


def test_missions_of_others_look_missing_and_those_of_a_team_are_read_only(project: Repository) -> None:
    ann, bob, eve = api.person("ann", teams=["web"]), api.person("bob", teams=["web"]), api.person("eve")
    mission = conflicting.landed_mission(project)
    ref = own(mission, ann)
    Mission.objects.filter(id=mission.id).update(team=ann.user.groups.get())
    assert [client.get(f"missions/{ref}/diff").status_code for client in (ann, bob, eve)] == [200, 200, 404]
    assert [client.get(f"missions/{ref}/conflicts").status_code for client in (ann, bob, eve)] == [200, 200, 404]
    for action in ("merge", "discard"):
        assert [client.post(f"missions/{ref}/{action}").status_code for client in (bob, eve)] == [403, 404]
    assert project.git("for-each-ref", "--format=%(refname)") == "refs/heads/main"
