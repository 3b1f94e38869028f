"""Checkpoints over HTTP: the owner can use them, the team can read them, and nobody else can see them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection

from checkpoints.files import storage
from checkpoints.models import Checkpoint
from checkpoints.operations.comparing import Difference, SortieDifference
from checkpoints.queries import bounds
from fleet import ids
from fleet.access import operations as access
from fleet.access.models import Role
from fleet.audit.models import Entry
from fleet.postgres import locks
from fleet.postgres.locks import SubjectLock
from missions.models import Mission
from tests.support import api, fleet

Request = tuple[str, str, dict[str, Any] | None]  # method, path, body

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def give_to(mission: Mission, owner: User, team: str | None = None) -> Mission:
    group = Group.objects.get(name=team) if team else None
    Mission.objects.filter(id=mission.id).update(created_by=owner, team=group)
    mission.refresh_from_db()
    return mission


@pytest.fixture
def ann() -> api.Client:
    return api.person("ann", can_execute=True, teams=["web"])


@pytest.fixture
def mission(ann: api.Client) -> Mission:
    return give_to(fleet.launch({"a": {}, "b": {"needs": ["a"]}}), ann.user, "web")


@pytest.fixture
def checkpoint(ann: api.Client, mission: Mission) -> str:
    return str(ann.post("checkpoints", {"mission": mission.ref, "name": "start"}).json()["id"])


def test_a_mission_is_captured_listed_read_and_deleted(ann: api.Client, mission: Mission) -> None:
    response = ann.post("checkpoints", {"mission": mission.ref, "note": "first", "keep": True})
    assert response.status_code == 201
    chk = response.json()["id"]
    assert response["Location"] == f"/api/v1/checkpoints/{chk}"
    assert (response.json()["missions"], response.json()["keep"]) == ([mission.ref], True)
    assert Checkpoint.objects.get().created_by == ann.user
    assert [row["id"] for row in ann.get("checkpoints").json()["results"]] == [chk]
    assert ann.get(f"checkpoints?mission={mission.ref}&trigger=request").json()["results"]
    assert not ann.get("checkpoints?trigger=interval").json()["results"]
    detail = ann.get(f"checkpoints/{chk}").json()
    assert detail == ann.get(f"checkpoints/latest/{mission.ref}").json()
    assert detail["contents"][0]["context"]["counts"] == {"queued": 1, "pending": 1}
    assert (detail["truncated"], detail["fleet"]) == (False, None)
    assert ann.delete(f"checkpoints/{chk}").status_code == 204
    assert ann.get(f"checkpoints/{chk}").status_code == 404
    assert ann.get(f"checkpoints/latest/{mission.ref}").status_code == 404
    kinds = Entry.objects.filter(actor="user:ann").values_list("kind", flat=True)
    assert {"checkpoint.create", "checkpoint.delete"} <= set(kinds)


def test_a_checkpoint_is_renamed_and_kept(ann: api.Client, mission: Mission, checkpoint: str) -> None:
    response = ann.patch(f"checkpoints/{checkpoint}", {"name": "the start", "keep": True})
    assert (response.status_code, response.json()["name"], response.json()["keep"]) == (200, "the start", True)
    assert ann.patch(f"checkpoints/{checkpoint}", {"keep": False}).json()["name"] == "the start"
    assert Checkpoint.objects.values_list("name", "keep").get() == ("the start", False)
    assert ann.patch(f"checkpoints/{checkpoint}", {}).status_code == 422
    entry = Entry.objects.filter(kind="checkpoint.keep", actor="user:ann").order_by("id")[0]
    assert (entry.before, entry.after) == ({"name": "start", "keep": False}, {"name": "the start", "keep": True})
    assert ann.post(f"checkpoints/{checkpoint}/verify", {}).json()["intact"], "its files are unchanged"


def test_a_mission_has_one_checkpoint_with_a_name(ann: api.Client, mission: Mission, checkpoint: str) -> None:
    refused = ann.post("checkpoints", {"mission": mission.ref, "name": "start"})
    assert refused.status_code == 409
    assert refused.json()["detail"].startswith(f"A checkpoint of this mission is already called 'start': {checkpoint}.")
    second = ann.post("checkpoints", {"mission": mission.ref, "name": "later"}).json()["id"]
    renamed = ann.patch(f"checkpoints/{second}", {"name": "start"})
    assert (renamed.status_code, checkpoint in renamed.json()["detail"]) == (409, True)
    assert ann.patch(f"checkpoints/{checkpoint}", {"name": "start"}).status_code == 200, "its own name"
    for _ in range(2):
        assert ann.post("checkpoints", {"mission": mission.ref}).status_code == 201, "without a name"
    other = give_to(fleet.launch({"a": {}}), ann.user)
    assert ann.post("checkpoints", {"mission": other.ref, "name": "start"}).status_code == 201, "of another mission"


def test_others_find_nothing_and_the_team_may_only_read(ann: api.Client, mission: Mission, checkpoint: str) -> None:
    bob, eve, boss = (
        api.person("bob", can_execute=True, teams=["web"]),
        api.person("eve"),
        api.person("boss", Role.ADMIN),
    )
    reads: list[Request] = [
        ("GET", checkpoint, None),
        ("GET", f"{checkpoint}/plan", None),
        ("GET", f"{checkpoint}/diff", None),
    ]
    reads += [("GET", f"latest/{mission.ref}", None), ("POST", f"{checkpoint}/verify", {})]
    writes: list[Request] = [("POST", f"{checkpoint}/{name}", {}) for name in ("restore", "resume", "fork")]
    writes += [("PATCH", checkpoint, {"keep": True}), ("DELETE", checkpoint, None)]
    absent = ids.encode(ids.CHECKPOINT, ids.new())
    for method, path, body in reads + writes:
        response = eve.send(method, f"checkpoints/{path}", body)
        missing = boss.send(method, f"checkpoints/{path.replace(checkpoint, absent)}", body)
        if "latest" not in path:
            assert response.json()["detail"] == missing.json()["detail"].replace(absent, checkpoint)
        assert response.status_code == 404
    assert eve.get("checkpoints").json()["results"] == []
    assert [bob.send(method, f"checkpoints/{path}", body).status_code for method, path, body in reads] == [200] * 5
    assert [bob.send(method, f"checkpoints/{path}", body).status_code for method, path, body in writes] == [403] * 5
    assert bob.get("checkpoints").json()["results"][0]["id"] == checkpoint
    assert bob.post("checkpoints", {"mission": mission.ref}).status_code == 403
    assert eve.post("checkpoints", {"mission": mission.ref}).status_code == 404
    assert boss.delete(f"checkpoints/{checkpoint}").status_code == 204


def test_users_who_lost_access_to_a_mission_see_neither_the_plan_nor_the_diff(
    ann: api.Client, mission: Mission, checkpoint: str
) -> None:
    bob = api.person("bob", teams=["web"])
    later = ann.post("checkpoints", {"mission": mission.ref}).json()["id"]
    give_to(mission, ann.user)
    assert bob.get(f"checkpoints/{checkpoint}").status_code == 200
    assert bob.get(f"checkpoints/{checkpoint}/diff?other={later}").status_code == 200
    for path in ("plan", "diff"):
        response = bob.get(f"checkpoints/{checkpoint}/{path}")
        assert (response.status_code, response.json()["detail"]) == (404, f"There is no mission {mission.ref}.")


def test_another_users_mission_is_not_overwritten(ann: api.Client, mission: Mission, checkpoint: str) -> None:
    eve = api.person("eve", can_execute=True)
    give_to(mission, eve.user)
    assert ann.post(f"checkpoints/{checkpoint}/restore").status_code == 404
    assert fleet.state(mission.id) == "running"


def test_a_restore_does_what_its_plan_says(ann: api.Client, mission: Mission, checkpoint: str) -> None:
    engine = fleet.engine()
    fleet.run_to_end(engine, mission)
    engine.stop(within_s=5)
    plan = ann.get(f"checkpoints/{checkpoint}/plan").json()
    assert (plan["state"], plan["run"], plan["lost"]) == ("paused", ["a", "b"], ["a", "b"])
    assert plan["counts"]["run"] == 2
    diff = ann.get(f"checkpoints/{checkpoint}/diff").json()
    assert {change["key"]: change["parts"]["state"][1] for change in diff["changed"]} == {
        "a": "succeeded", "b": "succeeded",
    }  # fmt: skip
    assert diff["mission"]["state"] == ["live", "succeeded"]
    assert ann.post(f"checkpoints/{checkpoint}/restore", {"plan": "0" * 16}).status_code == 409
    response = ann.post(f"checkpoints/{checkpoint}/restore", {"plan": plan["digest"]})
    assert response.status_code == 202
    assert response["Location"] == f"/api/v1/missions/{mission.ref}"
    body = response.json()
    assert (body["mission"]["state"], body["checkpoint"]) == ("paused", checkpoint)
    assert Checkpoint.objects.get(trigger="restore").ref == body["safety"]
    assert ann.get(f"checkpoints/{body['safety']}").json()["trigger"] == "restore"
    assert ann.get(f"checkpoints/{checkpoint}/diff").json()["counts"] == {"added": 0, "removed": 0, "changed": 0}


def test_resume_restores_and_continues_a_mission_even_without_its_rows(
    ann: api.Client, mission: Mission, checkpoint: str
) -> None:
    assert ann.post(f"checkpoints/{checkpoint}/resume").json()["mission"]["state"] == "running"
    Mission.objects.get(id=mission.id).delete()
    assert ann.get(f"checkpoints/{checkpoint}/plan").json()["create"] == ["a", "b"]
    back = ann.post(f"checkpoints/{checkpoint}/resume").json()
    assert (back["mission"]["state"], back["safety"]) == ("running", None)
    assert Mission.objects.get().created_by == ann.user


def test_a_fork_belongs_to_its_creator_and_shows_its_origin(ann: api.Client, mission: Mission, checkpoint: str) -> None:
    response = ann.post(f"checkpoints/{checkpoint}/fork", {"sorties": ["b"], "name": "Again", "start": True})
    assert response.status_code == 201
    body = response.json()
    assert (body["rerun"], body["counts"]) == (["b"], {"rerun": 1, "dropped": 0, "stale": 0})
    assert (body["mission"]["state"], body["mission"]["name"]) == ("running", "Again")
    assert response["Location"] == f"/api/v1/missions/{body['mission']['id']}"
    assert body["mission"]["origin"] == f"fork of {mission.ref} at {checkpoint}, from b"
    assert ann.get(f"missions/{body['mission']['id']}").json()["origin"] == body["mission"]["origin"]
    assert Mission.objects.get(name="Again").created_by == ann.user
    unknown = ann.post(f"checkpoints/{checkpoint}/fork", {"sorties": ["nobody"]})
    assert unknown.status_code == 404
    params = ann.post(f"checkpoints/{checkpoint}/fork", {"params": {"nothing": 1}})
    assert (params.status_code, params.json()["errors"][0]["pointer"]) == (422, "/params")
    edit = ann.post(f"checkpoints/{checkpoint}/fork", {"edit": {"sorties": {"b": {"agent": "backend"}}}})
    assert (edit.status_code, edit.json()["errors"][0]["pointer"]) == (422, "/edit")
    assert Mission.objects.count() == 2


def test_a_fork_is_shared_with_the_team_only_by_a_member(ann: api.Client, mission: Mission, checkpoint: str) -> None:
    def forked_team() -> Any:
        forked = ann.post(f"checkpoints/{checkpoint}/fork", {}).json()["mission"]
        return ann.get(f"missions/{forked['id']}").json()["team"]

    assert forked_team() == "web"
    ann.user.groups.clear()
    assert forked_team() is None


def test_an_edited_sortie_is_given_as_an_object(ann: api.Client, checkpoint: str) -> None:
    edit = {"sorties": {"b": {"agent": "backend", "driver": "scripted", "needs": ["a"]}}}
    assert ann.post(f"checkpoints/{checkpoint}/fork", {"edit": edit}).json()["rerun"] == ["b"]


def test_code_starts_only_with_plan_execute(ann: api.Client, checkpoint: str) -> None:
    access.set_execute(user=ann.user, allowed=False)
    for name in ("restore", "resume", "fork"):
        response = ann.post(f"checkpoints/{checkpoint}/{name}")
        assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert Checkpoint.objects.count() == Mission.objects.count() == 1


def test_keys_are_limited_by_their_scopes(ann: api.Client, mission: Mission, checkpoint: str) -> None:
    requests: dict[str, list[Request]] = {
        "read": [("GET", "checkpoints", None), ("GET", f"checkpoints/{checkpoint}/plan", None)],
        "launch": [("POST", f"checkpoints/{checkpoint}/fork", {})],
        "operate": [
            ("POST", "checkpoints", {"mission": mission.ref, "keep": True}),
            ("POST", f"checkpoints/{checkpoint}/restore", {}),
            ("DELETE", f"checkpoints/{checkpoint}", None),
        ],
    }
    for scope in requests:
        machine = api.machine(ann.user, scope)
        for needed_scope, entries in requests.items():
            if needed_scope != scope:
                assert [machine.send(*entry).status_code for entry in entries] == [403] * len(entries)
    for scope, entries in requests.items():
        machine = api.machine(ann.user, scope)
        assert [machine.send(*entry).status_code < 300 for entry in entries] == [True] * len(entries)


def test_a_repeated_request_has_no_second_effect(ann: api.Client, mission: Mission, checkpoint: str) -> None:
    for path, body in (
        ("checkpoints", {"mission": mission.ref}),
        (f"checkpoints/{checkpoint}/restore", {}),
        (f"checkpoints/{checkpoint}/resume", {}),
        (f"checkpoints/{checkpoint}/fork", {}),
    ):
        first = ann.post(path, body, Idempotency_Key=path)
        counts = Checkpoint.objects.count(), Mission.objects.count()
        replay = ann.post(path, body, Idempotency_Key=path)
        assert first.status_code == replay.status_code < 300, first.content
        assert replay.json() == first.json()
        assert (replay["Idempotency-Replayed"], replay["Location"]) == ("true", first["Location"])
        assert (Checkpoint.objects.count(), Mission.objects.count()) == counts


def test_a_request_that_is_still_in_progress_is_not_started_again(ann: api.Client, mission: Mission) -> None:
    other = connection.copy()
    with other.cursor() as cursor:
        key = [SubjectLock.IDEMPOTENT_REQUEST, locks._hash(f"user:{ann.user.pk} key")]
        cursor.execute("SELECT pg_advisory_lock(%s, %s)", key)
        response = ann.post("checkpoints", {"mission": mission.ref}, Idempotency_Key="key")
        assert (response.status_code, response.json()["code"]) == (409, "conflict")
    other.close()
    assert not Checkpoint.objects.exists()
    assert ann.post("checkpoints", {"mission": mission.ref}, Idempotency_Key="key").status_code == 201


def test_a_checkpoint_of_the_whole_fleet_is_for_admins_only(ann: api.Client, mission: Mission) -> None:
    boss = api.person("boss", Role.ADMIN)
    other = fleet.launch({"c": {}})
    assert ann.post("checkpoints", {"all": True}).status_code == 403
    for wrong in ({}, {"all": True, "mission": mission.ref}):
        assert boss.post("checkpoints", wrong).status_code == 422
    chk = boss.post("checkpoints", {"all": True}).json()["id"]
    assert ann.get(f"checkpoints/{chk}").status_code == 404
    assert ann.get(f"checkpoints/latest/{mission.ref}").status_code == 404
    detail = boss.get(f"checkpoints/{chk}").json()
    assert {entry["id"] for entry in detail["contents"]} == {mission.ref, other.ref}
    assert detail["fleet"]["agent_types"]
    response = boss.get(f"checkpoints/{chk}/plan")
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/mission")
    assert boss.get(f"checkpoints/{chk}/plan?mission={other.ref}").json()["mission"] == other.ref
    absent = ids.encode(ids.MISSION, ids.new())
    assert boss.post(f"checkpoints/{chk}/restore", {"mission": absent}).status_code == 404
    assert boss.post(f"checkpoints/{chk}/restore", {"mission": other.ref}).status_code == 202


def test_damage_is_named_with_the_checkpoints_that_the_caller_may_see(
    ann: api.Client, mission: Mission, checkpoint: str
) -> None:
    boss = api.person("boss", Role.ADMIN)
    assert ann.post(f"checkpoints/{checkpoint}/verify").json()["intact"]
    fleet.launch({"c": {}})
    whole = boss.post("checkpoints", {"all": True}).json()["id"]
    storage.remove_blob(storage.read_manifest(checkpoint).missions[0].mission.blob)
    (damage,) = ann.post(f"checkpoints/{checkpoint}/verify").json()["damages"]
    (full_damage,) = boss.post(f"checkpoints/{checkpoint}/verify").json()["damages"]
    assert (damage["shared_by"], sorted(full_damage["shared_by"])) == ([checkpoint], sorted([checkpoint, whole]))
    assert ann.post(f"checkpoints/{checkpoint}/restore").status_code == 409
    assert ann.get(f"checkpoints/{checkpoint}/plan").status_code == 409


def test_long_responses_are_truncated_with_the_full_counts(ann: api.Client, mission: Mission, monkeypatch: Any) -> None:
    many = give_to(fleet.launch({f"s{number}": {} for number in range(5)}), ann.user)
    checkpoint = ann.post("checkpoints", {"mission": many.ref}).json()["id"]
    monkeypatch.setattr(bounds, "MAX_KEYS", 2)
    monkeypatch.setattr(bounds, "MAX_CHANGES", 3)
    monkeypatch.setattr(bounds, "MAX_VALUE", 5)
    plan = ann.get(f"checkpoints/{checkpoint}/plan").json()
    assert (plan["run"], plan["counts"]["run"]) == (["s0", "s1"], 5)
    engine = fleet.engine()
    fleet.run_to_end(engine, many)
    engine.stop(within_s=5)
    response = ann.get(f"checkpoints/{checkpoint}/diff").json()
    assert (len(response["changed"]), response["counts"]["changed"]) == (3, 5)
    assert "state" in response["changed"][0]["omitted"]
    monkeypatch.setattr(bounds, "MAX_MISSIONS", 1)
    boss = api.person("boss", Role.ADMIN)
    for name in ("other", "third"):
        fleet.launch({name: {}})
    whole = boss.post("checkpoints", {"all": True}).json()["id"]
    detail = boss.get(f"checkpoints/{whole}").json()
    assert (len(detail["contents"]), len(detail["missions"]), detail["truncated"]) == (1, 2, True)


def test_diffs_contain_no_secrets() -> None:
    spec = {"run": "x", "env": {"TOKEN": "hush-hush"}, "secret_env": ["TOKEN"]}
    found = Difference(
        mission={"plan": ("a", "b"), "priority": (0, 1)}, added=(), removed=(),
        changed=(SortieDifference(key="a", parts={"spec": (spec, {**spec, "run": "y"})}),),
    )  # fmt: skip
    data = bounds.difference(found)
    assert (data["mission"], data["omitted"]) == ({"priority": [0, 1]}, ["plan"])
    assert "hush-hush" not in str(data)
    assert data["changed"][0]["parts"]["spec"][1]["run"] == "y"


def test_a_mission_that_is_being_cancelled_is_not_captured(ann: api.Client, mission: Mission) -> None:
    Mission.objects.filter(id=mission.id).update(state="cancelling")
    assert ann.post("checkpoints", {"mission": mission.ref}).status_code == 409
