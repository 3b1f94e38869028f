"""Who may see Flower, and which of its pages; everything else is refused before it reaches Flower."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.support import web

pytestmark = pytest.mark.django_db


def test_an_anonymous_visitor_is_redirected_to_sign_in_and_back(client: Client) -> None:
    response = client.get("/flower/tasks?limit=5")
    assert response.status_code == 302
    assert response["Location"] == "/admin/login/?next=/flower/tasks%3Flimit%3D5"
    assert client.get("/flower")["Location"] == "/flower/"


def test_only_superusers_are_admitted() -> None:
    for client in (web.staff("view_mission", "view_agent"), web.ordinary_user()):
        assert client.get("/flower/").status_code == 403
        assert client.post("/flower/tasks/datatable").status_code == 403
        assert client.get("/flower/static/js/flower.js").status_code == 403


@pytest.mark.parametrize(
    "path",
    ["metrics", "healthcheck", "login", "logout", "api/task/result/x", "api/worker/shutdown/backend-1@host",
     "../metrics", "workers/../metrics", "static/../metrics", "static/%2e%2e/metrics", "worker/a/../../metrics",
     "/metrics", "//example.org/", "http://example.org/", "worker/a%0d%0aHost: example.org", "worker/..", "nothing"],
)  # fmt: skip
def test_other_pages_of_flower_are_not_found(path: str) -> None:
    assert web.superuser().get(f"/flower/{path}").status_code == 404


@pytest.mark.parametrize("path", ["", "workers", "worker/backend-1@host", "api/workers", "api/tasks", "task/1"])
def test_other_methods_are_refused(path: str) -> None:
    boss = web.superuser()
    for method in (boss.post, boss.put, boss.patch, boss.delete):
        response = method(f"/flower/{path}")
        assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")
    assert boss.delete("/flower/tasks/datatable").status_code == 405


def test_no_action_of_flower_is_reachable() -> None:
    boss = web.superuser()
    for action in (
        "worker/shutdown", "worker/pool/restart", "worker/pool/grow", "worker/pool/autoscale", "task/revoke",
        "worker/queue/add-consumer", "worker/queue/cancel-consumer", "task/apply", "task/async-apply",
        "task/send-task", "task/abort", "task/timeout", "task/rate-limit",
    ):  # fmt: skip
        assert boss.post(f"/flower/api/{action}/missions.fly").status_code == 404


def test_the_size_of_a_post_is_limited() -> None:
    boss = web.superuser()
    assert boss.post("/flower/tasks/datatable", {"search": "x" * 70_000}).status_code == 413


def test_without_flower_the_page_says_where_to_look() -> None:
    response = web.superuser().get("/flower/")
    assert response.status_code == 502
    assert "fleet_services logs flower" in response.content.decode()
