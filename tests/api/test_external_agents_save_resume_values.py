"""External agents save what the next attempt needs to continue with their progress reports, and get it with the work."""

from __future__ import annotations

from typing import Any

import pytest

from agents.confinement.attempt_limits import RESUME_BYTES
from fleet import ids
from fleet.access.models import Role
from missions import attempt_tokens
from missions.models import Attempt, Mission, Sortie
from tests.support import api, fleet
from tests.support.waiting import until

pytestmark = pytest.mark.django_db

VALUE = {"session": "ünï-1", "done": [1, 2.5, None]}
SECRET = "a secret of mine"


@pytest.fixture
def agent() -> api.Client:
    return api.person("amy", Role.AGENT)


@pytest.fixture
def ref(agent: api.Client) -> str:
    fleet.open_to_external_agents()
    return str(agent.post("agents", {"type": "backend", "concurrency": 1}).json()["id"])


def launch(**keys: Any) -> Mission:
    return fleet.launch({"one": {"run": "make it", "retry": {"max_attempts": 3, "backoff": "0.01s"}, **keys}})


def claim(agent: api.Client, ref: str) -> dict[str, Any]:
    def try_claim() -> Any:
        fleet.beat()
        return agent.post("sorties/claim", {"agent": ref}).json()["leases"]

    (lease,) = until(try_claim)
    return dict(lease)


def send(agent: api.Client, lease: dict[str, Any], **body: Any) -> Any:
    return agent.post(f"sorties/{lease['sortie']}/progress", {"token": lease["token"], **body})


def fail(agent: api.Client, lease: dict[str, Any]) -> None:
    response = agent.post(f"sorties/{lease['sortie']}/fail", {"token": lease["token"], "error": "no"})
    assert response.json()["state"] == "waiting"


def test_the_next_attempt_gets_the_value_with_its_work(agent: api.Client, ref: str) -> None:
    mission = launch()
    first = claim(agent, ref)
    assert first["work"]["resume"] is None
    assert send(agent, first, resume={"done": []}).status_code == 204
    assert send(agent, first, resume=VALUE, fraction=0.5).status_code == 204
    assert send(agent, first, note="a report without it changes nothing").status_code == 204
    fail(agent, first)
    second = claim(agent, ref)
    assert second["work"]["resume"] == VALUE
    attempts = api.person("root", Role.ADMIN).get(f"sorties/{first['sortie']}/attempts").json()["results"]
    assert [(item["attempt"], item["resume"]) for item in attempts] == [(1, VALUE), (2, None)]
    assert Sortie.objects.get(mission=mission).attempt == 2


def test_null_makes_the_next_attempt_start_over(agent: api.Client, ref: str) -> None:
    launch()
    first = claim(agent, ref)
    send(agent, first, resume=VALUE)
    fail(agent, first)
    second = claim(agent, ref)
    assert send(agent, second, resume=None).status_code == 204
    fail(agent, second)
    assert claim(agent, ref)["work"]["resume"] is None


@pytest.mark.parametrize(
    "bad", ["x" * RESUME_BYTES, "\0", 2**63 + 1, {"a": ["\ud800"]}], ids=["large", "nul", "int", "text"]
)
def test_an_unacceptable_value_is_refused_and_changes_nothing(agent: api.Client, ref: str, bad: Any) -> None:
    launch()
    lease = claim(agent, ref)
    send(agent, lease, resume=VALUE)
    response = send(agent, lease, resume=bad, note="with it")
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"].startswith("/resume")
    assert list(Attempt.objects.values_list("resume", "note")) == [(VALUE, "")]


def test_once_the_lease_is_lost_nothing_is_saved(agent: api.Client, ref: str) -> None:
    launch()
    lease = claim(agent, ref)
    fail(agent, lease)
    assert send(agent, lease, resume=VALUE).status_code == 409
    assert list(Attempt.objects.values_list("resume", flat=True)) == [None]


def test_secrets_are_redacted(agent: api.Client, ref: str) -> None:
    launch(env={"MINE": {"value": SECRET, "secret": True}})
    lease = claim(agent, ref)
    assert send(agent, lease, resume={SECRET: [SECRET]}).status_code == 204
    assert Attempt.objects.get().resume == {"[redacted]": ["[redacted]"]}


@pytest.mark.parametrize("path", ["agents", "missions"])
def test_other_requests_that_report_progress_accept_it_too(agent: api.Client, ref: str, path: str) -> None:
    mission = launch()
    lease = claim(agent, ref)
    body = {"token": lease["token"], "resume": VALUE}
    if path == "agents":
        response = agent.post(f"agents/{ref}/progress", {**body, "sortie": lease["sortie"]})
    else:
        response = agent.patch(f"missions/{mission.ref}/progress", body)
    assert (response.status_code, Attempt.objects.get().resume) == (204, VALUE)


def test_work_of_the_fleets_own_agents_has_to_use_the_file(agent: api.Client, ref: str) -> None:
    lease = claim_for_our_own(agent, ref)
    response = api.Client(lease["token"]).post(f"sorties/{lease['sortie']}/progress", {"resume": VALUE})
    assert (response.status_code, Attempt.objects.get().resume) == (422, None)
    assert "FLEET_RESUME" in response.text


def claim_for_our_own(agent: api.Client, ref: str) -> dict[str, Any]:
    launch()
    lease = claim(agent, ref)
    attempt = Attempt.objects.select_related("agent").get()
    assert attempt.agent is not None
    attempt.agent.pid = 1
    attempt.agent.save()
    sortie = ids.decode(ids.SORTIE, lease["sortie"])
    return {**lease, "token": attempt_tokens.issue(sortie=sortie, attempt=1)}
