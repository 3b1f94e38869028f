"""Security headers: what pages may do, and which other sites may use the API."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import pytest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.test import AsyncRequestFactory, Client, RequestFactory, override_settings

from fleet.web.policies import FLOWER_SCRIPT, Policies
from tests.support import web
from tests.support.paths import CHECKOUT

BOARD = "https://board.example.org"
POLICY = "Content-Security-Policy"


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/", "/metrics", "/nothing/here"])
@pytest.mark.django_db
def test_responses_that_are_not_pages_forbid_everything(client: Client, path: str) -> None:
    policy = client.get(path)[POLICY]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy


@pytest.mark.django_db
def test_inline_scripts_in_the_admin_do_not_run() -> None:
    response = web.superuser().get("/admin/")
    directives = dict(part.strip().split(" ", 1) for part in response[POLICY].split(";"))
    assert directives["script-src"] == "'self' 'unsafe-eval'"
    assert directives["form-action"] == directives["connect-src"] == "'self'"
    assert directives["default-src"] == directives["base-uri"] == "'none'"
    assert response["X-Frame-Options"] == "DENY"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Referrer-Policy"] == response["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in response["Permissions-Policy"]


@pytest.mark.django_db
def test_pages_of_flower_run_no_script_from_an_event_in_redis() -> None:
    response = web.superuser().get("/flower/tasks")
    directives = dict(part.strip().split(" ", 1) for part in response[POLICY].split(";"))
    assert directives["script-src"] == f"'self' {FLOWER_SCRIPT}"
    assert directives["form-action"] == directives["connect-src"] == "'self'"


def test_a_view_keeps_its_own_policy_in_sync_and_async_mode() -> None:
    def stored(request: HttpRequest) -> HttpResponse:
        return HttpResponse("", headers={POLICY: "sandbox"})

    async def streamed(request: HttpRequest) -> HttpResponse:
        return stored(request)

    async def other(request: HttpRequest) -> HttpResponse:
        return HttpResponse("")

    request = AsyncRequestFactory().get("/admin/")
    assert Policies(stored)(RequestFactory().get("/"))[POLICY] == "sandbox"
    assert asyncio.run(Policies(streamed)(request))[POLICY] == "sandbox"
    assert "'unsafe-eval'" in asyncio.run(Policies(other)(request))[POLICY]


def cors(response: HttpResponseBase) -> dict[str, str]:
    return {name: value for name, value in response.items() if name.lower().startswith("access-control-")}


PREFLIGHT = {
    "Origin": BOARD,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization",
}


@pytest.mark.django_db
def test_without_an_allow_list_no_other_site_can_use_the_api(client: Client) -> None:
    assert cors(client.options("/api/v1/", headers=PREFLIGHT)) == {}
    assert cors(client.get("/api/v1/", headers={"Origin": BOARD})) == {}


@pytest.mark.django_db
@override_settings(CORS_ALLOWED_ORIGINS=[BOARD])
def test_a_listed_site_can_use_the_api_only_with_tokens(client: Client) -> None:
    preflight = client.options("/api/v1/", headers=PREFLIGHT)
    assert preflight.status_code == 200
    values = {name.lower(): value for name, value in cors(preflight).items()}
    assert values["access-control-allow-origin"] == BOARD
    assert "authorization" in values["access-control-allow-headers"]
    assert "POST" in values["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in values
    response = client.get("/api/v1/", headers={"Origin": BOARD})
    assert response["Access-Control-Allow-Origin"] == BOARD
    assert "origin" in response["Vary"].lower()
    for origin in (
        "https://board.example.org.evil.example",
        "http://board.example.org",
        "null",
        "https://evil.example",
    ):
        assert cors(client.get("/api/v1/", headers={"Origin": origin})) == {}
    for path in ("/admin/login/", "/healthz", "/metrics"):
        assert cors(client.get(path, headers={"Origin": BOARD})) == {}


@pytest.mark.django_db
@override_settings(CORS_ALLOWED_ORIGINS=[BOARD])
def test_cookies_are_accepted_only_from_this_sites_pages() -> None:
    browser = web.superuser()
    request = {origin: browser.get("/api/v1/me", headers={"Origin": origin} if origin else {}) for origin in (
        "", "http://testserver", BOARD, "null", "http://testserver.example.org",
    )}  # fmt: skip
    assert [response.status_code for response in request.values()] == [200, 200, 401, 401, 401]


LOOK = """
import django, json; django.setup()
from django.test import Client
def get(path, **more):
    answer = Client(headers=more).get(path)
    return [answer.status_code, dict(answer.items()), {n: bool(c["secure"]) for n, c in answer.cookies.items()}]
print(json.dumps([get("/admin/login/"), get("/admin/login/", **{"X-Forwarded-Proto": "https"}), get("/healthz")]))
"""


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "fleet.settings", "FLEET_ALLOWED_HOSTS": "testserver", **env}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=CHECKOUT, capture_output=True, text=True, timeout=60
    )


def test_with_https_only_probes_may_use_http() -> None:
    result = run("-c", LOOK, FLEET_HTTPS="yes", FLEET_TRUSTED_PROXIES="127.0.0.1")
    assert result.returncode == 0, result.stderr
    clear, secure, health = json.loads(result.stdout)
    assert (clear[0], clear[1]["Location"]) == (301, "https://testserver/admin/login/")
    assert secure[0] == 200
    assert secure[1]["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    assert secure[2] == {"csrftoken": True}
    assert health[0] == 200


def test_the_deployment_check_passes_with_https_and_warns_without() -> None:
    with_https = run(
        "manage.py", "check", "--deploy", "--tag", "security", "--fail-level", "WARNING", FLEET_HTTPS="yes"
    )
    assert with_https.returncode == 0, with_https.stderr
    without = run("manage.py", "check", "--deploy", "--tag", "security")
    found = {word.strip("():") for word in without.stderr.split() if word.startswith("(security.")}
    assert found == {"security.W004", "security.W008", "security.W012", "security.W016"}
    page = (CHECKOUT / "docs" / "security.md").read_text()
    assert all(name in page for name in found)


def test_a_missing_icon_is_not_logged(client: Client) -> None:
    assert client.get("/favicon.ico").status_code == 204
