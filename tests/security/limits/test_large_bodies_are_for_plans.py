"""Parsing a large body occupies a web process, so only requests that need one may send it, and their users are charged."""

from __future__ import annotations

import gc
import io
from typing import Any

import pytest
from rest_framework.exceptions import ParseError

from agents.models import Agent
from fleet.access.models import Role
from fleet.api.http.parsers import JsonParser
from fleet.api.views import MAX_BODY_BYTES
from missions import attempt_tokens
from missions.models import Sortie
from tests.support import api, fleet
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

ITEMS = b"[" + b"[]," * (MAX_BODY_BYTES // 3) + b"[]]"
LARGE = b'{"reason": ' + ITEMS + b"}"
ANY_ID = "01m8nychwfecss72gynyy60nyt"
ORDINARY = [
    ("POST", f"missions/msn_{ANY_ID}/cancel"),
    ("POST", f"sorties/srt_{ANY_ID}/progress"),
    ("POST", "sorties/claim"),
    ("POST", "keys"),
    ("POST", "tickets"),
    ("POST", f"schedules/sch_{ANY_ID}/pause"),
    ("POST", f"checkpoints/chk_{ANY_ID}/restore"),
    ("PATCH", f"missions/msn_{ANY_ID}"),
    ("PATCH", "agent-types/backend"),
    ("GET", "missions"),
    ("DELETE", f"schedules/sch_{ANY_ID}"),
]


@pytest.mark.parametrize(("method", "path"), ORDINARY)
def test_ordinary_requests_may_not_have_large_bodies(method: str, path: str) -> None:
    response = api.person("root", Role.ADMIN).send(method, path, LARGE)
    assert (response.status_code, response.json()["code"]) == (413, "too_large"), response.content[:300]


LARGE_ALLOWED = [
    "missions",
    "plans/check",
    "schedules",
    f"checkpoints/chk_{ANY_ID}/fork",
    f"sorties/srt_{ANY_ID}/complete",
]


@pytest.mark.parametrize("path", LARGE_ALLOWED)
def test_what_may_be_large_is_charged_to_its_user(path: str, settings: Any) -> None:
    settings.FLEET_LIMIT_COST_S = 0.001
    root = api.person("root", Role.ADMIN)
    assert root.post(path, LARGE).status_code in (404, 422)
    assert root.post(path, LARGE).status_code == 429


def test_the_completion_of_a_sortie_costs_nothing_if_it_is_small(settings: Any) -> None:
    settings.FLEET_LIMIT_COST_S = 0.001
    root = api.person("root", Role.ADMIN)
    assert [root.post(f"sorties/srt_{ANY_ID}/complete", {}).status_code for _ in range(3)] == [422, 422, 422]


def test_the_longest_report_is_not_too_large() -> None:
    """Each of these characters takes twelve bytes as a JSON escape."""
    report = {"output": "\U0001f98a" * 100_000, "resume": {"text": "x" * 60_000}}
    response = api.person("root", Role.ADMIN).post(f"sorties/srt_{ANY_ID}/progress", report)
    assert response.status_code == 422, "only the lease token is missing"


def test_a_workload_is_refused_before_its_large_body_is_parsed() -> None:
    amy = api.person("amy", Role.AGENT)
    fleet.open_to_external_agents()
    agent = amy.post("agents", {"type": "backend"}).json()["id"]
    fleet.launch({"one": {"run": "make it"}})
    fleet.beat()
    until(lambda: amy.post("sorties/claim", {"agent": agent}).json()["leases"])
    Agent.objects.update(pid=1)  # as if one of the fleet's own agents had claimed it
    sortie = Sortie.objects.get()
    token = attempt_tokens.issue(sortie=sortie.id, attempt=1)
    response = api.Client(token).post(f"sorties/{sortie.ref}/complete", b"{" + b" " * MAX_BODY_BYTES + b"not JSON")
    assert (response.status_code, response.json()["code"]) == (409, "conflict"), response.content


def test_the_garbage_collector_runs_again_after_a_body_that_cannot_be_parsed() -> None:
    for body in (b"[", b"[" * 100_000):
        with pytest.raises(ParseError):
            JsonParser().parse(io.BytesIO(body))
        assert gc.isenabled()
