"""What all endpoints share: idempotency keys, conditional requests, paging, and errors with their places."""

from __future__ import annotations

import threading
from typing import Any

import jsonschema_rs
import pytest
from django.db import connection

from agents.models import AgentType, Node
from fleet import ids
from fleet.access import operations
from fleet.access.models import Role
from fleet.api.models import IdempotentResponse
from fleet.events.models import Event
from missions.models import Mission, Sortie, Template
from tests.support import api, artifacts, fleet, web

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture
def ann() -> api.Client:
    return api.person("ann", can_execute=True)


# ── Idempotency-Key ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_repeated_request_with_an_idempotency_key_returns_the_first_response(ann: api.Client) -> None:
    first = ann.post("missions", {"plan": api.PLAN}, Idempotency_Key="k-1")
    replay = ann.post("missions", {"plan": api.PLAN}, Idempotency_Key="k-1")
    assert (first.status_code, replay.status_code) == (201, 201)
    assert replay.json() == first.json()
    assert replay["Location"] == first["Location"]
    assert (replay["Idempotency-Replayed"], "Idempotency-Replayed" in first) == ("true", False)
    assert Mission.objects.count() == 1


def test_a_key_cannot_be_reused_for_another_request_and_belongs_to_one_caller(ann: api.Client) -> None:
    ann.post("missions", {"plan": api.PLAN}, Idempotency_Key="k-1")
    other = ann.post("missions", {"plan": {**api.PLAN, "mission": "Another"}}, Idempotency_Key="k-1")
    assert (other.status_code, other.json()["code"]) == (422, "invalid")
    bob = api.person("bob", can_execute=True)
    assert bob.post("missions", {"plan": api.PLAN}, Idempotency_Key="k-1").status_code == 201
    assert Mission.objects.count() == 2


def test_a_response_is_not_repeated_to_a_caller_whose_permissions_have_changed(ann: api.Client) -> None:
    boss = api.person("boss", Role.ADMIN)
    ref = ann.post("missions", {"plan": api.PLAN}).json()["id"]
    path = f"missions/{ref}/pause"
    requests = [(boss, path, {}, "k-1"), (ann, "missions", {"plan": api.PLAN}, "k-2")]
    for client, path, body, key in requests:
        first = client.post(path, body, Idempotency_Key=key)
        replay = client.post(path, body, Idempotency_Key=key)
        assert (replay.json(), replay["Idempotency-Replayed"]) == (first.json(), "true")
    api.person("chief", Role.ADMIN)  # otherwise the last admin could not lose the role
    operations.set_role(user=boss.user, role=Role.USER)
    operations.set_execute(user=ann.user, allowed=False)
    for client, path, body, key in requests:
        response = client.post(path, body, Idempotency_Key=key)
        assert (response.status_code, response.json()["code"]) == (422, "invalid")
        assert "permissions" in response.json()["detail"]
    assert Mission.objects.count() == 2


def test_a_failed_request_can_be_repeated_with_its_key(ann: api.Client) -> None:
    bad = {"plan": {"mission": "x", "sorties": {"a": {"agent": "nobody", "run": "true"}}}}
    assert ann.post("missions", bad, Idempotency_Key="k-1").status_code == 422
    assert IdempotentResponse.objects.count() == 0
    assert ann.post("missions", {"plan": api.PLAN}, Idempotency_Key="k-1").status_code == 201


def test_only_one_of_concurrent_requests_with_the_same_key_launches(ann: api.Client) -> None:
    responses: list[Any] = []

    def post() -> None:
        try:
            responses.append(api.Client(ann.bearer).post("missions", {"plan": api.PLAN}, Idempotency_Key="k-1"))
        finally:
            connection.close()

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {response.status_code for response in responses} <= {201, 409}
    assert len({response.json()["id"] for response in responses if response.status_code == 201}) == 1
    assert Mission.objects.count() == 1


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb", "\u00e4"])
def test_an_invalid_key_is_refused(ann: api.Client, key: str) -> None:
    assert ann.post("missions", {"plan": api.PLAN}, Idempotency_Key=key).status_code == 422


def test_stored_responses_contain_no_tokens_or_keys(ann: api.Client) -> None:
    ann.post("keys", {"name": "one", "scopes": ["read"]}, Idempotency_Key="k-1")
    api.anonymous().post("auth/token", {"username": "ann", "password": api.PASSWORD}, Idempotency_Key="k-2")
    assert IdempotentResponse.objects.count() == 0


# ── Lists ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cursor", ["AAAA", "eD0x", "bz0w", "%20"])
def test_an_empty_cursor_does_not_restart_the_list(ann: api.Client, cursor: str) -> None:
    response = ann.get(f"missions?cursor={cursor}")
    assert (response.status_code, response.json()["code"]) == (422, "invalid")


def test_a_cursor_of_another_list_is_refused(ann: api.Client) -> None:
    for _ in range(2):
        ann.post("missions", {"plan": api.PLAN})
    cursors = {
        name: ann.get(f"{name}?limit=1").json()["next"].rpartition("cursor=")[2] for name in ("missions", "events")
    }
    assert ann.get(f"missions?cursor={cursors['missions']}").status_code == 200
    assert ann.get(f"events?cursor={cursors['events']}").status_code == 200
    assert ann.get(f"missions?cursor={cursors['events']}").json()["code"] == "invalid"
    assert ann.get(f"events?cursor={cursors['missions']}").json()["code"] == "invalid"


def test_rows_without_a_numeric_id_are_paged_too() -> None:
    boss = api.person("boss", Role.ADMIN)
    for name in ("alpha", "beta", "gamma"):
        Template.objects.create(name=name, text="{mission: x, sorties: {a: {agent: backend, run: ls}}}")
        Node.objects.create(name=name, pid=1, start_time=0.0)
    mission = web.ended_mission()
    sortie = Sortie.objects.get(mission=mission, key="good")
    for path in ("one", "two", "three"):
        artifacts.add(sortie, path=path, content=b"x")
    files = ["one", "two", "three"]
    types = sorted(AgentType.objects.values_list("name", flat=True))
    lists = {
        "templates": ("name", ["alpha", "beta", "gamma"]), "nodes": ("name", ["alpha", "beta", "gamma"]),
        "agent-types": ("name", types), f"missions/{mission.ref}/artifacts": ("path", files),
        f"sorties/{sortie.ref}/artifacts": ("path", files),
    }  # fmt: skip
    for path, (name, expected) in lists.items():
        names, next_page = [], f"{path}?limit=2"
        while next_page:
            body = boss.get(next_page).json()
            assert body.keys() == {"next", "previous", "results"}
            assert len(body["results"]) <= 2
            names += [result[name] for result in body["results"]]
            next_page = body["next"]
        assert names == expected, path
        assert boss.get(f"{path}?cursor=cD0AAA==").status_code == 422


# ── ETag and If-Match ────────────────────────────────────────────────────────────────────────────────────────────────


def test_etags_save_transfers_and_guard_changes(ann: api.Client) -> None:
    ref = ann.post("missions", {"plan": api.PLAN}).json()["id"]
    etag = ann.get(f"missions/{ref}")["ETag"]
    assert ann.get(f"missions/{ref}", If_None_Match=etag).status_code == 304
    assert ann.patch(f"missions/{ref}", {"priority": 5}).status_code == 428
    update = ann.patch(f"missions/{ref}", {"priority": 5}, If_Match=etag)
    assert (update.status_code, update.json()["priority"]) == (200, 5)
    late = ann.patch(f"missions/{ref}", {"priority": 7}, If_Match=etag)
    assert (late.status_code, late.json()["code"]) == (412, "changed")
    assert ann.patch(f"missions/{ref}", {"priority": 7}, If_Match=update["ETag"]).status_code == 200
    assert list(Mission.objects.values_list("priority", "sorties__priority")) == [(7, 7)]
    assert Event.objects.filter(kind="mission.changed").count() == 2


@pytest.mark.parametrize("priority, status", [(-1_000, 200), (1_000, 200), (-1_001, 422), (1_001, 422)])
def test_a_mission_takes_the_priorities_that_a_plan_takes(ann: api.Client, priority: int, status: int) -> None:
    ref = ann.post("missions", {"plan": {**api.PLAN, "priority": 900}}).json()["id"]
    assert ann.patch(f"missions/{ref}", {"priority": priority}, If_Match="*").status_code == status
    assert ann.post("plans/check", {"plan": {**api.PLAN, "priority": priority}}).status_code == status


# ── Bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_problem_of_a_body_has_a_pointer(ann: api.Client) -> None:
    response = ann.post("missions", {"plann": {}, "start": "perhaps", "params": {"a": "b\u0000"}, "team": "x" * 151})
    document = response.json()
    assert (response.status_code, document["code"]) == (422, "invalid")
    assert {error["pointer"] for error in document["errors"]} == {"/plann", "/start", "/params/a", "/team"}
    document = ann.post("missions", {"start": "perhaps", "params": {"a": "b\u0000"}, "team": "x" * 151}).json()
    assert {error["pointer"] for error in document["errors"]} == {"/start", "/params/a", "/team"}


def test_each_problem_of_a_plan_has_a_pointer(ann: api.Client) -> None:
    text = "mission: x\nsorties:\n  a: {agent: nobody, run: ls}\n  b: {agent: backend, run: ls, needs: [c]}\n"
    body = ann.post("missions", {"plan": text}).json()
    assert body["code"] == "invalid_plan"
    assert [(error["pointer"], error["line"]) for error in body["errors"]] == [
        ("/plan/sorties/a/agent", 3), ("/plan/sorties/b/needs/0", 4),
    ]  # fmt: skip
    assert ann.post("plans/check", {"plan": text}).status_code == 422
    plan = {"mission": "x", "sorties": {"a": {"agent": "backend", "run": "ls", "env": {"A.B/C~": 1.5, "D": []}}}}
    body = ann.post("missions", {"plan": plan}).json()
    assert {error["pointer"] for error in body["errors"]} >= {"/plan/sorties/a/env/A.B~1C~0"}


@pytest.mark.parametrize(
    ("method", "path", "body", "pointer"),
    [
        ("POST", "missions", {}, ""), ("POST", "missions", {"plan": api.PLAN, "template": "x"}, ""),
        ("POST", "missions", {"plan": api.PLAN, "team": "nobody's"}, "/team"), ("GET", "missions?cursor=x", None, "/cursor"),
        ("POST", "keys", {"name": "x", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ("POST", "tickets", {"path": "/nowhere"}, "/path"), ("GET", "missions/nonsense", None, ""),
    ],
)  # fmt: skip
def test_every_invalid_value_has_a_pointer_whichever_layer_rejects_it(
    ann: api.Client, method: str, path: str, body: Any, pointer: str
) -> None:
    response = ann.send(method, path, body)
    assert (response.status_code, [error["pointer"] for error in response.json()["errors"]]) == (422, [pointer]), (
        response.json()
    )


@pytest.mark.parametrize(
    "body, status",
    [
        (b"{", 400), (b'{"plan": NaN}', 400), (b"\xff\xfe", 400), (b"[" * 100_000, 400), (b"[]", 422), (b'"x"', 422),
        (b'{"plan": ' + b"[" * 60 + b"]" * 60 + b"}", 422), (b"null", 422), (b"", 422), (b'{"plan": "\\ud800"}', 422),
    ],
)  # fmt: skip
def test_a_malformed_body_is_a_client_error(ann: api.Client, body: bytes, status: int) -> None:
    response = ann.post("missions", body)
    assert (response.status_code, response["Content-Type"]) == (status, "application/problem+json"), response.content


def test_a_body_of_another_media_type_is_not_read_as_json(ann: api.Client) -> None:
    response = ann._client.post(
        "/api/v1/missions", "plan=x", content_type="application/x-www-form-urlencoded",
        headers={"Authorization": f"Bearer {ann.bearer}"},
    )  # fmt: skip
    assert response.status_code == 415


# ── What is launched ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_plan_execute_a_user_launches_only_prompts_and_templates(project: str) -> None:
    eve, boss = api.person("eve"), api.person("boss", Role.ADMIN)
    response = eve.post("missions", {"plan": api.PLAN})
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert boss.post("missions", {"plan": api.PLAN}).status_code == 201
    AgentType.objects.filter(name="backend").update(prompt_argv=["cat"])
    prompt = {"agent": "backend", "prompt": "Say hello"}
    for harm in ({"run": "id"}, {"verify": "id"}, {"env": {"LD_PRELOAD": "x"}}, {"cwd": "/etc"}):
        sortie = {**prompt, **harm} if "run" not in harm else {"agent": "backend", **harm}
        assert eve.post("missions", {"plan": {"mission": "x", "sorties": {"a": sortie}}}).status_code == 403, harm
    assert (
        eve.post("missions", {"plan": {"mission": "x", "sorties": {"a": prompt}}, "folder": project}).status_code == 201
    )
    assert (
        eve.post("missions", {"objective": "Say {{ hello }}", "agent": "backend", "folder": project}).status_code == 201
    )
    Template.objects.create(
        name="greet",
        text='{mission: Greet, inputs: {who: {}}, sorties: {a: {agent: backend, run: ["echo", "{{ inputs.who }}"]}}}',
    )
    mission = eve.post("missions", {"template": "greet", "params": {"who": "ann; id"}})
    assert (mission.status_code, mission.json()["inputs"]) == (201, {"who": "ann; id"})
    assert [result["name"] for result in eve.get("templates").json()["results"]] == ["greet"]
    assert eve.post("missions", {"template": "other"}).status_code == 404
    assert eve.post("missions", {"plan": api.PLAN, "template": "greet"}).status_code == 422


def test_a_mission_is_visible_to_the_chosen_team_which_must_be_the_callers() -> None:
    ann, bob, eve = (api.person(name, can_execute=True, teams=teams) for name, teams in
                     (("ann", ["web"]), ("bob", ["web"]), ("eve", ["ops"])))  # fmt: skip
    assert ann.post("missions", {"plan": api.PLAN, "team": "ops"}).status_code == 422
    ref = ann.post("missions", {"plan": api.PLAN, "team": "web"}).json()["id"]
    assert [client.get(f"missions/{ref}").status_code for client in (ann, bob, eve)] == [200, 200, 404]
    assert [len(client.get("missions").json()["results"]) for client in (ann, bob, eve)] == [1, 1, 0]
    assert [client.post(f"missions/{ref}/cancel").status_code for client in (bob, eve)] == [403, 404]
    assert not eve.get("events").json()["results"]
    assert bob.get("events").json()["results"]
    assert ann.post(f"missions/{ref}/cancel", {"reason": "Enough."}).status_code == 202


def test_a_mission_without_plan_execute_cannot_add_code(project: str) -> None:
    AgentType.objects.filter(name="backend").update(prompt_argv=["sh", "-c", "cat > $FLEET_SORTIES"])
    engine = fleet.engine()
    outcomes = {}
    for client in (api.person("eve"), api.person("ann", can_execute=True)):
        request = '[{"name": "more", "agent": "backend", "run": "true"}]'
        ref = client.post("missions", {"objective": request, "agent": "backend", "folder": project}).json()["id"]
        mission = Mission.objects.get(id=ids.decode(ids.MISSION, ref))
        outcomes[client.user.username] = (fleet.run_to_end(engine, mission), sorted(fleet.states(mission.id)))
        if client.user.username == "eve":
            assert "runs code" in client.get(f"missions/{ref}/sorties").json()["results"][0]["error"]
    engine.stop(within_s=5)
    assert outcomes == {"eve": ("failed", ["task"]), "ann": ("succeeded", ["more", "task"])}


def test_the_schema_of_plans_accepts_what_can_be_launched() -> None:
    ann = api.person("ann")
    schema = ann.get("plans/schema").json()["schema"]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert jsonschema_rs.is_valid(schema, api.PLAN)
    assert not jsonschema_rs.is_valid(schema, {**api.PLAN, "sortie": {}})


def test_only_one_of_concurrent_conditional_changes_succeeds(ann: api.Client) -> None:
    ref = ann.post("missions", {"plan": api.PLAN, "start": False}).json()["id"]
    etag = ann.get(f"missions/{ref}")["ETag"]
    responses: list[int] = []

    def change(priority: int) -> None:
        try:
            response = api.Client(ann.bearer).patch(f"missions/{ref}", {"priority": priority}, If_Match=etag)
            responses.append(response.status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=change, args=(priority,)) for priority in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(responses) == [200, 412, 412, 412, 412, 412]
