"""Schedules over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from fleet.access.models import Role
from missions.models import Mission, Schedule
from missions.operations import schedules as operations
from tests.support import api, schedules

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

BODY = {"name": "nightly", "cron": "30 2 * * *", "timezone": "America/New_York", "plan": api.PLAN}


@pytest.fixture
def ann(transactional_db: None) -> api.Client:
    return api.person("ann", can_execute=True, teams=["web"])


def create(client: api.Client, **fields: Any) -> dict[str, Any]:
    response = client.post("schedules", {**BODY, **fields})
    assert response.status_code == 201, response.content
    assert response.headers["Location"] == f"/api/v1/schedules/{response.json()['id']}"
    return dict(response.json())


def problems(response: Any) -> dict[str, str]:
    assert response.status_code == 422, response.content
    return {entry["pointer"]: entry["detail"] for entry in response.json()["errors"]}


def test_a_schedule_is_created_read_changed_and_deleted(ann: api.Client) -> None:
    body = create(ann, team="web", overlap="queue")
    assert (body["owner"], body["team"], body["overlap"], body["catch_up"]) == ("ann", "web", "queue", "once")
    assert len(body["upcoming"]) == 5
    assert {time[11:16] for time in body["upcoming"]} == {"02:30"}
    current = ann.get(f"schedules/{body['id']}")
    assert {**current.json(), "upcoming": body["upcoming"]} == body
    assert ann.get("schedules").json()["results"][0]["id"] == body["id"]
    assert ann.patch(f"schedules/{body['id']}", {"overlap": "skip"}).status_code == 428
    update = ann.patch(
        f"schedules/{body['id']}", {"cron": "@daily", "timezone": "UTC"}, If_Match=current.headers["ETag"]
    )
    assert update.status_code == 200, update.content
    assert (update.json()["cron"], update.json()["revision"]) == ("@daily", 2)
    assert update.json()["next_at"].endswith("T00:00:00+00:00")
    stale = ann.patch(f"schedules/{body['id']}", {"cron": "@hourly"}, If_Match=current.headers["ETag"])
    assert stale.status_code == 412
    assert ann.delete(f"schedules/{body['id']}").status_code == 204
    assert ann.get(f"schedules/{body['id']}").status_code == 404


def test_problems_point_to_their_fields(ann: api.Client) -> None:
    def problems_of(**fields: Any) -> dict[str, str]:
        return problems(ann.post("schedules", {**BODY, **fields}))

    assert "never matches" in problems_of(cron="0 0 30 2 *")["/cron"]
    assert "Did you mean America/New_York?" in problems_of(timezone="America/New_Yrok")["/timezone"]
    assert "/overlap" in problems_of(overlap="sometimes")
    assert "/name" in problems_of(name="")
    assert any(pointer.startswith("/plan") for pointer in problems_of(plan={"mission": "x"}))
    assert "/folder" in problems_of(folder="/etc")
    assert "exactly one" in ann.post("schedules", {**BODY, "template": "x"}).json()["detail"]
    assert not Schedule.objects.exists()
    create(ann)
    assert ann.post("schedules", BODY).status_code == 409


def test_the_missions_of_a_schedule_are_listed_by_it(ann: api.Client) -> None:
    body = create(ann)
    response = ann.post(f"schedules/{body['id']}/run")
    assert response.status_code == 202, response.content
    ref = response.json()["mission"]
    assert response.headers["Location"] == f"/api/v1/missions/{ref}"
    ann.post("missions", {"plan": api.PLAN})
    missions = ann.get(f"missions?schedule={body['id']}").json()["results"]
    assert [(mission["id"], mission["schedule"]) for mission in missions] == [(ref, body["id"])]
    assert ann.get(f"missions/{ref}").json()["schedule"] == body["id"]
    assert {mission["schedule"] for mission in ann.get("missions").json()["results"]} == {body["id"], None}
    assert ann.get("missions?schedule=nonsense").status_code == 422
    assert ann.post(f"schedules/{body['id']}/run").status_code == 409


def test_ticks_are_listed_newest_first(ann: api.Client) -> None:
    body = create(ann, overlap="allow")
    for _ in range(3):
        ann.post(f"schedules/{body['id']}/run")
    page = ann.get(f"schedules/{body['id']}/ticks?limit=2").json()
    assert [tick["outcome"] for tick in page["results"]] == ["launched", "launched"]
    assert len(ann.get(page["next"]).json()["results"]) == 1
    detail = ann.get(f"schedules/{body['id']}").json()
    assert detail["last"] == page["results"][0]
    assert (detail["runs"], detail["last"]["requested"]) == (3, True)


def test_a_schedule_is_paused_and_resumed(ann: api.Client) -> None:
    body = create(ann)
    paused = ann.post(f"schedules/{body['id']}/pause", {"reason": "Migration"}).json()
    assert (paused["paused"], paused["reason"], paused["next_at"], paused["upcoming"]) == (True, "Migration", None, [])
    assert ann.post(f"schedules/{body['id']}/pause").status_code == 409
    assert ann.get("schedules?paused=true").json()["results"][0]["id"] == body["id"]
    assert ann.get("schedules?paused=false").json()["results"] == []
    assert ann.post(f"schedules/{body['id']}/resume").json()["next_at"] == body["next_at"]


def test_a_preview_lists_times_on_the_clocks_of_the_zone(ann: api.Client) -> None:
    preview = ann.get("schedules/preview?cron=30+2+*+*+1-5&timezone=Australia/Lord_Howe&limit=7").json()
    assert preview["explanation"] == "At 02:30 on Monday through Friday"
    assert len(preview["times"]) == 7
    assert {time[11:16] for time in preview["times"]} == {"02:30"}
    assert "never matches" in problems(ann.get("schedules/preview?cron=0+0+30+2+*"))["/cron"]
    assert ann.get("schedules/preview").status_code == 422


def test_only_the_owner_changes_a_schedule_and_only_its_team_sees_it(ann: api.Client) -> None:
    body = create(ann, team="web")
    bob, eve = api.person("bob", can_execute=True, teams=["web"]), api.person("eve", can_execute=True)
    assert bob.get(f"schedules/{body['id']}").status_code == 200
    assert bob.post(f"schedules/{body['id']}/run").status_code == 403
    assert eve.get(f"schedules/{body['id']}").status_code == 404
    assert eve.get("schedules").json()["results"] == []
    assert eve.get(f"missions?schedule={body['id']}").json()["results"] == []
    assert eve.post("schedules", BODY).status_code == 201  # the name of ann's schedule is not revealed


def test_an_admin_cannot_use_the_rights_of_the_hosts_operator() -> None:
    schedule = schedules.create()
    root = api.person("root", Role.ADMIN)
    ref = f"schedules/{schedule.ref}"
    assert root.get(ref).json()["operator"] is True
    assert root.patch(ref, {"plan": api.PLAN}, If_Match="*").status_code == 403
    assert root.patch(ref, {"cron": "@daily"}, If_Match="*").status_code == 200
    assert root.post(f"{ref}/run").status_code == 202
    assert Mission.objects.get().created_by is None


def test_a_key_that_may_only_operate_neither_creates_nor_changes_nor_runs(ann: api.Client) -> None:
    body = create(ann)
    key = api.machine(ann.user, "operate", "read")
    ref = f"schedules/{body['id']}"
    assert key.post("schedules", {**BODY, "name": "other"}).status_code == 403
    assert key.patch(ref, {"cron": "@daily"}, If_Match="*").status_code == 403
    assert key.post(f"{ref}/run").status_code == 403
    assert key.post(f"{ref}/pause").status_code == 200


def test_a_repeated_request_with_the_same_key_creates_one_schedule(ann: api.Client) -> None:
    responses = [ann.post("schedules", BODY, Idempotency_Key="a") for _ in range(2)]
    assert [response.status_code for response in responses] == [201, 201]
    assert responses[0].json()["id"] == responses[1].json()["id"]
    assert Schedule.objects.count() == 1


def test_the_ticks_of_a_disabled_users_schedule_have_the_reason(ann: api.Client) -> None:
    body = create(ann)
    User.objects.filter(username="ann").update(is_active=False)
    schedules.due(Schedule.objects.get())
    schedules.drain()
    root = api.person("root", Role.ADMIN)
    (tick,) = root.get(f"schedules/{body['id']}/ticks").json()["results"]
    assert (tick["outcome"], "disabled" in tick["reason"]) == ("failed", True)
    assert root.get("events?kind=schedule.failed").json()["results"][0]["subject"] == body["id"]
    operations.delete(schedule=Schedule.objects.get().id)
