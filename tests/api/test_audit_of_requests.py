"""The audit trail records every denial over HTTP, whichever layer denies, and the end of every session."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.postgres.functions import TransactionNow  # the start of the test, which is one transaction
from django.test import Client

from fleet.access.models import Role
from fleet.access.rules import Scope
from fleet.audit.models import Entry
from fleet.limits.rates import Rate
from missions.models import Mission
from missions.operations import external_agents
from tests.support import api, fleet

pytestmark = pytest.mark.django_db


def entries_of(kind: str) -> list[dict[str, Any]]:
    entries = Entry.objects.filter(at__gte=TransactionNow(), kind=kind).order_by("id")
    return [dict(entry) for entry in entries.values("outcome", "actor", "subject", "data", "request")]


def test_denials_by_operations_are_recorded_like_denials_by_the_table() -> None:
    ann, bob = api.person("ann", can_execute=True, teams=["web"]), api.person("bob", teams=["web"])
    agent = api.machine(bob.user, Scope.MANAGE)
    mission = ann.post("missions", {"plan": api.PLAN, "team": "web"}).json()["id"]
    responses = [
        bob.post(f"missions/{mission}/cancel"),
        bob.post("missions", {"plan": api.PLAN}),
        agent.post("keys", {"name": "more", "scopes": ["launch"]}),
        bob.get("audit"),
    ]
    assert [response.status_code for response in responses] == [403] * 4
    entries = entries_of("denied")
    assert [entry["subject"] for entry in entries] == [
        f"/api/v1/missions/{mission}/cancel", "/api/v1/missions", "/api/v1/keys", "/api/v1/audit",
    ]  # fmt: skip
    assert [entry["actor"] for entry in entries][:2] == ["user:bob"] * 2
    assert entries[0]["data"]["action"] == "missions.cancel"
    assert [entry["request"] for entry in entries] == [response["X-Request-ID"] for response in responses]
    assert not Mission.objects.filter(created_by=bob.user).exists()


def test_a_forged_browser_request_is_recorded() -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(api.person("ann").user)
    assert browser.post("/api/v1/keys", {}, content_type="application/json").status_code == 403
    assert [(entry["subject"], "CSRF" in entry["data"]["why"]) for entry in entries_of("denied")] == [
        ("/api/v1/keys", True)
    ]


def test_ended_sessions_and_stolen_refresh_tokens_are_recorded() -> None:
    api.person("ann")
    pair = api.anonymous().post("auth/token", {"username": "ann", "password": api.PASSWORD}).json()
    api.anonymous().post("auth/refresh", {"refresh": "no token"})
    assert [(entry["outcome"], entry["subject"]) for entry in entries_of("token")] == [
        ("denied", "/api/v1/auth/refresh")
    ]
    client = api.Client(pair["access"])
    for _ in range(2):
        api.anonymous().post("auth/refresh", {"refresh": pair["refresh"]})
    assert [(entry["outcome"], entry["subject"]) for entry in entries_of("token.reused")] == [("denied", "user:ann")]
    new_tokens = api.anonymous().post("auth/token", {"username": "ann", "password": api.PASSWORD}).json()
    client = api.Client(new_tokens["access"])
    client.post("auth/logout")
    assert [(entry["actor"], entry["subject"], entry["data"]) for entry in entries_of("sign_out")] == [
        ("user:ann", "user:ann", {"sessions": 1})
    ]


def test_a_machine_key_is_limited_by_its_scopes_and_its_expiry() -> None:
    ann = api.person("ann")
    until = "2090-01-01T00:00:00Z"
    short = ann.post("keys", {"name": "short", "scopes": ["manage", "read"], "expires_at": until}).json()
    reader = api.machine(ann.user, Scope.READ)
    assert reader.post("auth/logout", {"everywhere": True}).status_code == 403
    assert ann.get("me").status_code == 200
    machine = api.Client(short["key"])
    for item in (None, "2099-01-01T00:00:00Z"):
        child = machine.post("keys", {"name": "child", "scopes": ["read"], "expires_at": item})
        assert child.json()["expires_at"] == short["expires_at"]
    earlier = machine.post("keys", {"name": "child", "scopes": ["read"], "expires_at": "2080-01-01T00:00:00Z"})
    assert earlier.json()["expires_at"].startswith("2080")


@pytest.mark.parametrize(
    "body",
    [
        b'{"\\ud800": 1}', b'{"name": "x", "scopes": ["\\ud800"]}', b'{"name": "x", "name": "y", "scopes": ["read"]}',
        '{"name": "x", "scopes": ["read"]}'.encode("utf-16"),
    ],
)  # fmt: skip
def test_surrogates_duplicate_keys_and_other_encodings_are_problems(body: bytes) -> None:
    response = api.person("ann").send("POST", "keys", body)
    assert response.status_code in {400, 422}, response.content
    assert response["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body", [b'{"result": "\\ud800"}', b'{"result": {"\\udc00": 1}}', b'{"sorties": [[{"a": 1}]]}']
)
def test_a_result_that_cannot_be_stored_leaves_the_lease_unchanged(body: bytes) -> None:
    ann = api.person("ann", can_execute=True)
    ann.post("missions", {"plan": api.PLAN})
    fleet.open_to_external_agents()
    robot = api.person("robot", Role.AGENT)
    agent = external_agents.register(agent_type="backend", by=robot.user)
    (lease,) = external_agents.claim(agent=agent.id)
    attempt = api.Client(lease.token)
    path = f"sorties/{lease.token.partition('.')[0]}/complete"
    assert (attempt.send("POST", path, body).status_code, attempt.post(path, {"result": "\\u0000"}).status_code) == (
        422,
        200,
    )


@pytest.mark.parametrize(
    "path, headers, status, code",
    [
        ("/api", {}, 404, "not_found"), ("/api/v2/missions", {}, 404, "not_found"),
        ("/api/v1/me", {"Host": "elsewhere.example"}, 400, "bad_request"),
    ],
)  # fmt: skip
def test_errors_outside_of_views_are_problems(path: str, headers: dict[str, str], status: int, code: str) -> None:
    response = api.anonymous().get(path, **headers)
    assert (response.status_code, response["Content-Type"]) == (status, "application/problem+json")
    assert (response.json()["code"], response.json()["request_id"]) == (code, response["X-Request-ID"])


def test_the_openapi_document_is_rate_limited_and_its_problems_are_json(settings: Any) -> None:
    settings.FLEET_LIMIT_IP = Rate(1_000, 86_400)  # seconds, so that no window ends between two requests
    anonymous = api.anonymous()
    first = anonymous.get("docs")
    second = anonymous.get("schema")
    assert int(second["RateLimit-Remaining"]) == int(first["RateLimit-Remaining"]) - 1
    response = anonymous.post("schema")
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")


def test_an_unexpected_error_is_a_problem_without_details(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("of the inside")

    monkeypatch.setattr("django.contrib.auth.models.User.has_perm", fail)
    response = api.person("ann").get("me")
    assert (response.status_code, response["Content-Type"]) == (500, "application/problem+json")
    assert (response.json()["code"], b"inside" in response.content) == ("internal", False)


def test_the_use_of_a_machine_key_is_recorded_as_such() -> None:
    key = api.machine(api.person("ann").user, Scope.READ)
    for _ in range(2):
        assert key.get("missions").status_code == 200
    assert [entry["actor"] for entry in entries_of("key.used")] == [f"key:{key.bearer[:12]}"]
