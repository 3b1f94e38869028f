"""Hostile input is refused or stored as text; it is never run, rendered or used as a path."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client as Browser
from django.test import override_settings
from django.utils import timezone

from agents.models import AgentType
from fleet import errors
from fleet.access import operations
from fleet.access.models import Key, Role
from fleet.access.operations import MAX_KEYS
from missions.models import Attempt, Mission, Output, Sortie, Template
from tests.support import api, artifacts, fleet, web
from tests.support.processes.live import run_concurrently

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

NASTY = (
    "'; DROP TABLE auth_user; --",
    '" OR 1=1 --',
    "%' OR '%'='",
    "{{ 7*7 }} {% debug %} ${7*7}",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "a\r\nSet-Cookie: stolen=1",
    "\x1b]0;owned\x07\x1b[2J",
    "\u202egnp.exe",
    "\x00",
    "𝕏" * 500,
)


@pytest.fixture
def boss() -> api.Client:
    return api.person("root", Role.ADMIN)


@pytest.mark.parametrize("nasty", NASTY)
def test_text_fields_and_urls_reject_everything_but_text(boss: api.Client, nasty: str) -> None:
    AgentType.objects.filter(name="backend").update(prompt_argv=["cat"])
    mission = web.ended_mission()
    sortie = Sortie.objects.get(mission=mission, key="good")
    bodies: list[tuple[str, Any]] = [
        ("auth/token", {"username": nasty, "password": nasty}),
        ("auth/refresh", {"refresh": nasty}),
        ("keys", {"name": nasty, "scopes": ["read"]}),
        ("keys", {"name": "x", "scopes": [nasty]}),
        ("missions", {"objective": nasty, "agent": "backend", "params": {nasty: nasty}}),
        ("missions", {"plan": nasty}),
        ("missions", {"plan": {"mission": nasty, "sorties": {nasty: {"agent": nasty, "run": nasty}}}}),
        ("missions", {"template": nasty, "team": nasty}),
        ("agents", {"type": nasty}),
        ("agents/spawn", {"type": nasty, "node": nasty}),
        ("sorties/claim", {"agent": nasty}),
        (f"missions/{mission.ref}/cancel", {"reason": nasty}),
        (f"sorties/{sortie.ref}/complete", {"token": nasty}),
        (f"sorties/{sortie.ref}/fail", {"token": f"{sortie.ref}.1.{nasty}"[:200], "error": nasty}),
    ]
    for path, body in bodies:
        response = boss.post(path, body)
        assert response.status_code < 500, (path, body, response.content)
        assert "stolen" not in str(response.headers)
    quoted = nasty.encode("utf-8", "surrogatepass").hex("%", 1)
    for path in (
        f"missions/%{quoted}", f"sorties/%{quoted}/logs", f"artifacts/%{quoted}/content", f"agents/%{quoted}/logs",
        f"missions?name=%{quoted}", f"missions?team=%{quoted}", f"missions?cursor=%{quoted}", f"events?kind=%{quoted}",
        f"agents?type=%{quoted}&node=%{quoted}", f"audit?actor=%{quoted}", f"missions/{mission.ref}/sorties?after=%{quoted}",
    ):  # fmt: skip
        response = boss.get(path)
        assert response.status_code < 500, (path, response.content)
    assert User.objects.filter(username="root").exists()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM auth_user LIMIT 1")
    page = web.superuser().get("/admin/missions/mission/").content.decode()
    assert "<script>alert(1)" not in page
    assert "<img src=x" not in page


def test_a_search_in_names_has_no_wildcards(boss: api.Client) -> None:
    fleet.launch({"one": {}})
    assert boss.get("missions?name=%25").json()["results"] == []
    assert boss.get("missions?name=_").json()["results"] == []
    assert len(boss.get("missions?name=A test").json()["results"]) == 1


@pytest.mark.parametrize("field", ["id", "state", "created_by", "role", "is_superuser", "plan_text", "finished_at"])
def test_read_only_fields_are_refused(boss: api.Client, field: str) -> None:
    response = boss.post("missions", {"plan": api.PLAN, field: "x"})
    assert response.status_code == 422
    mission = fleet.launch({"one": {}})
    assert boss.patch(f"missions/{mission.ref}", {field: "x"}, If_Match="*").status_code == 422
    mission.refresh_from_db()
    assert mission.state == "running"


def test_ids_cannot_be_guessed_from_each_other(boss: api.Client) -> None:
    """Ids sort by time, so their first half can be guessed. The rest is random, and permissions do not depend on it."""
    eve = api.person("eve", can_execute=True)
    refs = [fleet.launch({"one": {}}).ref for _ in range(3)]
    assert {eve.get(f"missions/{ref}").status_code for ref in refs} == {404}
    mine = eve.post("missions", {"plan": api.PLAN}).json()["id"]
    theirs = Sortie.objects.get(mission=Mission.objects.exclude(created_by=eve.user)[0])
    assert eve.get(f"missions/{mine}/sorties?after={theirs.ref}").status_code == 404


def test_an_html_artifact_is_downloaded_and_never_rendered_on_the_sites_origin() -> None:
    mission = web.ended_mission()
    sortie = Sortie.objects.get(mission=mission, key="good")
    file = artifacts.add(sortie, path="../../x/report\r\n.html", content=b"<script>alert(document.cookie)</script>")
    response = web.superuser().get(f"/api/v1/artifacts/{file.ref}/content")
    assert response.status_code == 200
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"].startswith("attachment")
    assert (response["X-Content-Type-Options"], response["Content-Security-Policy"][:7]) == ("nosniff", "sandbox")


def test_a_template_treats_its_inputs_as_data() -> None:
    eve = api.person("eve")
    Template.objects.create(
        name="echo",
        text='{mission: Echo, inputs: {who: {}}, sorties: {a: {agent: backend, run: ["echo", "{{ inputs.who }}"]}}}',
    )
    response = eve.post("missions", {"template": "echo", "params": {"who": "$(id) {{ inputs.other }}"}}).json()
    assert response["inputs"] == {"who": "$(id) {{ inputs.other }}"}
    assert eve.post("missions", {"template": "echo", "params": {"other": "x"}}).status_code == 422
    assert eve.post("missions", {"template": "echo", "plan": api.PLAN}).status_code == 422


def test_a_write_with_a_session_cookie_requires_a_csrf_token() -> None:
    user = api.person("ann", can_execute=True).user
    browser = Browser(enforce_csrf_checks=True)
    browser.force_login(user)
    assert browser.get("/api/v1/missions").status_code == 200
    response = browser.post("/api/v1/missions", {"plan": api.PLAN}, content_type="application/json")
    assert response.status_code == 403
    assert "CSRF" in response.json()["detail"]
    assert not Mission.objects.exists()


def test_a_large_object_with_a_duplicate_key_is_refused_quickly(boss: api.Client) -> None:
    """Comparing each name with all others would take minutes of CPU time."""
    names = ",".join(f'"a{number}":1' for number in range(150_000))
    response = boss.post("missions", b"{" + names.encode() + b',"a149999":2}')
    assert (response.status_code, response.json()["code"]) == (400, "parse_error")
    assert "'a149999' appears twice" in response.json()["detail"]


def test_anonymous_callers_cannot_send_large_bodies(boss: api.Client) -> None:
    longest = {
        "username": "\U0001f98a" * 150,
        "password": "\U0001f98a" * 1_000,
    }  # each takes twelve bytes as a JSON escape
    assert api.anonymous().post("auth/token", longest).status_code == 401
    for path in ("auth/token", "auth/refresh"):
        response = api.anonymous().post(path, b" " * 20_001)
        assert (response.status_code, response.json()["code"]) == (413, "too_large")


def test_too_many_parameters_are_refused_with_a_problem(boss: api.Client) -> None:
    response = boss.get("missions?" + "&".join(f"a{number}=1" for number in range(1_001)))
    assert (response.status_code, response.json()["code"]) == (400, "bad_request")
    assert "parameters" in response.json()["detail"]


def test_creating_more_keys_does_not_raise_a_users_rate(boss: api.Client) -> None:
    user, soon = boss.user, timezone.now() + timedelta(hours=1)
    keys = [operations.create_key(user=user, name="x", scopes=["read"], expires_at=soon).key for _ in range(MAX_KEYS)]
    response = boss.post("keys", {"name": "one more", "scopes": ["read"]})
    assert (response.status_code, "Revoke" in response.json()["detail"]) == (409, True)
    operations.revoke_key(key=keys[0])
    assert boss.post("keys", {"name": "one more", "scopes": ["read"]}).status_code == 201
    Key.objects.filter(id=keys[1].id).update(expires_at=timezone.now())
    assert boss.post("keys", {"name": "one more", "scopes": ["read"]}).status_code == 201
    assert boss.post("keys", {"name": "one more", "scopes": ["read"]}).status_code == 409


def test_concurrent_requests_do_not_create_more_keys_than_are_allowed(boss: api.Client) -> None:
    for _ in range(MAX_KEYS - 2):
        operations.create_key(user=boss.user, name="x", scopes=["read"])

    def create() -> None:
        with suppress(errors.Conflict):
            operations.create_key(user=boss.user, name="one more", scopes=["read"])

    run_concurrently(*[create] * 8)
    assert Key.objects.filter(user=boss.user).count() == MAX_KEYS


def test_followed_logs_count_as_streams_until_they_end() -> None:
    ann = api.person("ann")
    mission = fleet.launch({"one": {}})
    Mission.objects.filter(id=mission.id).update(created_by=ann.user)
    sortie = mission.sorties.get()
    Attempt.objects.create(sortie=sortie, number=1)
    Output.objects.create(sortie=sortie, attempt=1, stream="stdout", text="hello\n")
    path = f"sorties/{sortie.ref}/logs.txt?follow=true"

    async def follow() -> list[int]:
        ask = sync_to_async(ann.get)
        first = await ask(path)
        chunks = aiter(first.streaming_content)
        assert await anext(chunks) == b"hello\n"
        responses = [await ask(path)]
        assert int(responses[0]["Retry-After"]) > 0
        await first._iterator.aclose()
        return [first.status_code, *(response.status_code for response in (*responses, await ask(path)))]

    with override_settings(FLEET_LIVE_LISTENERS=4):
        assert async_to_sync(follow)() == [200, 429, 200]
