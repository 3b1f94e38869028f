"""What all URLs of the API share: authentication, errors and paging."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.views import APIView

from fleet.access.models import Role
from missions.queries import mission_json, sortie_json
from tests.support import api, fleet, web

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

PATHS = ("/api/v1/", "/api/v1/missions", "/api/v1/missions/msn_01hzzzzzzzzzzzzzzzzzzzzzzz", "/api/v1/nothing/here")


@pytest.mark.parametrize("path", PATHS)
def test_anonymous_requests_get_a_401_that_says_how_to_sign_in(path: str) -> None:
    stranger = api.anonymous().get(path)
    assert stranger.status_code == 401
    assert stranger["WWW-Authenticate"].startswith("Bearer")
    assert stranger["Content-Type"] == "application/problem+json"


def test_a_view_without_a_rule_refuses_everybody() -> None:
    request = APIRequestFactory().get("/")
    force_authenticate(request, User.objects.create_superuser("boss", password=web.PASSWORD))
    assert APIView.as_view()(request).status_code == 403


def test_the_root_lists_the_resources() -> None:
    links = web.superuser().get("/api/v1/").json()
    assert links["missions"] == "http://testserver/api/v1/missions"
    assert links["admin"] == "http://testserver/admin/"
    assert links["metrics"] == "http://testserver/metrics"
    assert "/flower/" in links["flower"]
    assert "admin" not in api.person("ann").get("").json()


def test_a_mission_has_the_same_shape_as_in_commands() -> None:
    mission = web.ended_mission()
    boss = web.superuser()
    body: dict[str, Any] = boss.get(f"/api/v1/missions/{mission.ref}").json()
    assert {
        **mission_json.summary(mission),
        **{name: body[name] for name in body.keys() - mission_json.summary(mission)},
    } == body
    items = boss.get(f"/api/v1/missions/{mission.ref}/sorties").json()["results"]
    assert items == list(sortie_json.of_mission(mission))
    assert {item["key"]: item["state"] for item in items} == {"good": "succeeded", "bad": "failed", "late": "skipped"}


def test_the_list_is_paged_newest_first_with_a_constant_number_of_queries(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    missions = [fleet.launch({"one": {}, "two": {}}) for _ in range(5)]
    boss = web.superuser()
    with django_assert_max_num_queries(5):  # session, user, missions and counts; sometimes also the time
        first = boss.get("/api/v1/missions?limit=3").json()
    assert [result["id"] for result in first["results"]] == [mission.ref for mission in reversed(missions[2:])]
    assert first["results"][0]["sorties"]["total"] == 2
    second = boss.get(first["next"]).json()
    assert [result["id"] for result in second["results"]] == [mission.ref for mission in reversed(missions[:2])]
    assert second["next"] is None


@pytest.mark.parametrize(
    "ref, status, code",
    [("msn_01hzzzzzzzzzzzzzzzzzzzzzzz", 404, "not_found"), ("nonsense", 422, "invalid"), ("%00", 422, "invalid")],
)
def test_a_missing_object_is_a_problem(ref: str, status: int, code: str) -> None:
    response = web.superuser().get(f"/api/v1/missions/{ref}")
    assert (response.status_code, response["Content-Type"]) == (status, "application/problem+json")
    document = response.json()
    assert (document["status"], document["code"]) == (status, code)
    assert document["detail"]
    assert document["request_id"] == response["X-Request-ID"]


NO_POSITION = base64.b64encode(b"p=yesterday").decode()


@pytest.mark.parametrize(
    "query",
    [
        *("limit=abc", "limit=-1", "limit=0", "limit=201", "limit=", "limit=1e2", "limit=%00", "limit=1&limit=2"),
        *("cursor=zzz", f"cursor={NO_POSITION}", "unknown=1", "state=asleep", "ordering=name"),
    ],
)
def test_an_invalid_parameter_is_a_problem(query: str) -> None:
    response = web.superuser().get(f"/api/v1/missions?{query}")
    assert (response.status_code, response["Content-Type"]) == (422, "application/problem+json")
    document = response.json()
    assert (document["status"], document["code"]) == (422, "invalid")
    assert document["detail"]


def test_a_wrong_method_gets_the_allowed_ones() -> None:
    response = api.person("root", Role.ADMIN).delete("missions")
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert response["Allow"].startswith("GET")


def test_a_trailing_slash_is_reported() -> None:
    response = api.person("ann").get("missions/")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert "Remove the trailing slash" in response.json()["detail"]


def test_events_use_the_ids_of_agents_that_the_api_accepts() -> None:
    mission, boss = web.ended_mission(), web.superuser()
    value = boss.get(f"/api/v1/missions/{mission.ref}/events?kind=sortie.running").json()["results"]
    assert boss.get(f"/api/v1/agents/{value[0]['data']['agent']}").status_code == 200
