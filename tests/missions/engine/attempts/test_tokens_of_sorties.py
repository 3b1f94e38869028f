"""The work of the fleet's own agents can use the API: it sees its mission and can report, but cannot settle."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from agents import operations as agents
from agents.models import Agent
from fleet import ids, services
from fleet.access.models import Role
from fleet.audit.models import Entry
from fleet.config import datastores, ports
from fleet.config.home import Home
from fleet.events.models import Event
from missions import attempt_tokens
from missions.control import duties
from missions.engine.process.runtime import Engine
from missions.engine.settlement import settle_and_claim
from missions.engine.settlement.settling import Settlement
from missions.models import Attempt, Mission, Output, Sortie
from missions.operations import external_agents
from tests.support import api, artifacts, fleet

API = "http://127.0.0.1:9/api/v1"
reached = override_settings(FLEET_URL="http://127.0.0.1:9")


class Work(NamedTuple):
    """A running sortie of one of the fleet's agents, and a client with its token."""

    mission: Mission
    sortie: Sortie
    agent: Agent
    token: str
    client: api.Client

    def end(self, outcome: str) -> None:
        """End the attempt, as its agent, the control loop or a user would."""
        if outcome == "lost":
            Sortie.objects.filter(id=self.sortie.id).update(lease_until=timezone.now() - timedelta(seconds=1))
            duties.rescue()
            return
        with connection.cursor() as cursor:
            if outcome == "returned":
                settle_and_claim.give_back(cursor.cursor, attempts=[(self.sortie.id, 1)], why="a drain")
                return
            error = "" if outcome == "succeeded" else "no"
            text = Settlement(id=self.sortie.id, attempt=1, state=outcome, outcome=outcome, charge=1, error=error)
            settle_and_claim.settle_and_claim(cursor.cursor, by=_claimant(self.agent), settlements=[text])


def _claimant(agent: Agent) -> settle_and_claim.Claimant:
    return settle_and_claim.Claimant(agent=agent.id, agent_type="backend", lease_s=30)


@pytest.fixture
def work(db: None) -> Work:
    mission = fleet.launch({"first": {}, "second": {"needs": ["first"]}}, inputs={"who": {"default": "world"}})
    agent = ids.new()
    agents.register(agent=agent, agent_type="backend", node="", pid=1, start_time=0.0)
    row = Agent.objects.get(id=agent)
    with connection.cursor() as cursor:
        (first,) = settle_and_claim.settle_and_claim(cursor.cursor, by=_claimant(row), max_claims=1).claims
    sortie = Sortie.objects.get(id=first.id)
    token = attempt_tokens.issue(sortie=sortie.id, attempt=1)
    return Work(mission, sortie, row, token, api.Client(token))


def test_a_token_opens_its_own_mission(work: Work) -> None:
    file = artifacts.add(work.sortie, path="page", content=b"made")
    mission = f"missions/{work.mission.ref}"
    assert work.client.get(mission).json()["inputs"] == {"who": "world"}
    assert [result["key"] for result in work.client.get(f"{mission}/sorties").json()["results"]] == ["first", "second"]
    assert work.client.get(f"{mission}/graph").json()["edges"] == [{"upstream": "first", "sortie": "second"}]
    assert "sortie.running" in {result["kind"] for result in work.client.get(f"{mission}/events").json()["results"]}
    assert work.client.get(f"{mission}/progress").json()["state"] == "running"
    other = Sortie.objects.get(mission=work.mission, key="second")
    for sortie in (work.sortie, other):
        assert work.client.get(f"sorties/{sortie.ref}").json()["key"] == sortie.key
        assert work.client.get(f"sorties/{sortie.ref}/logs").status_code == 200
    assert work.client.get(f"artifacts/{file.ref}/content").headers["Content-Length"] == "4"


def test_a_token_opens_no_other_mission_and_changes_nothing(work: Work) -> None:
    other = fleet.launch({"one": {}})
    theirs = Sortie.objects.get(mission=other)
    for path in (f"missions/{other.ref}", f"missions/{other.ref}/events", f"sorties/{theirs.ref}"):
        assert work.client.get(path).status_code == 404, path
    assert work.client.post(f"sorties/{theirs.ref}/progress", {"fraction": 0.5}).status_code == 404
    for path in ("missions", "events", "agents", "keys", "me", f"missions/{work.mission.ref}/events/stream"):
        assert work.client.get(path).status_code == 403, path
    assert work.client.post("missions", {"plan": api.PLAN}).status_code == 403
    for action in ("cancel", "retry"):
        assert work.client.post(f"sorties/{work.sortie.ref}/{action}").status_code == 403, action
    assert work.client.post(f"missions/{work.mission.ref}/cancel").status_code == 403


def test_a_token_can_report_but_its_agent_renews_the_lease(work: Work) -> None:
    address = f"sorties/{work.sortie.ref}"
    before = Sortie.objects.get(id=work.sortie.id).lease_until, Agent.objects.get(id=work.agent.id).heartbeat_at
    assert work.client.post(f"{address}/progress", {"fraction": 0.4, "note": "reading"}).status_code == 204
    assert work.client.post(f"{address}/heartbeat").json() == {"renewed": [work.sortie.ref], "cancelled": []}
    attempt = Attempt.objects.get()
    assert (attempt.progress, attempt.note) == (0.4, "reading")
    assert work.sortie.ref in str(work.client.get(address).json())
    assert attempt.token is not None
    assert work.token not in attempt.token
    after = Sortie.objects.get(id=work.sortie.id).lease_until, Agent.objects.get(id=work.agent.id).heartbeat_at
    assert after == before
    response = work.client.post(f"{address}/progress", {"output": "more and more"})
    assert (response.status_code, Output.objects.exists()) == (422, False)
    Sortie.objects.filter(id=work.sortie.id).update(cancel_requested=True)
    assert work.client.post(f"{address}/heartbeat").json()["cancelled"] == [work.sortie.ref]


def test_an_external_agent_cannot_renew_the_lease(work: Work) -> None:
    stranger = api.person("stan", Role.AGENT)
    fleet.open_to_external_agents()
    agent = external_agents.register(agent_type="backend", by=stranger.user)
    response = stranger.post(f"agents/{agent.ref}/heartbeat", {"tokens": [work.token]})
    assert response.status_code == 409


@pytest.mark.parametrize("action, body", [("complete", {"result": 1}), ("fail", {"error": "no"})])
def test_a_token_cannot_complete_or_fail_its_sortie(work: Work, action: str, body: dict[str, Any]) -> None:
    response = work.client.post(f"sorties/{work.sortie.ref}/{action}", body)
    assert response.status_code == 409
    assert "FLEET_RESULT" in response.json()["detail"]
    assert Sortie.objects.get(id=work.sortie.id).state == "running"
    work.end("succeeded")
    assert work.client.post(f"sorties/{work.sortie.ref}/{action}", body).status_code == 409


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled", "returned", "lost"])
def test_a_token_expires_with_its_attempt(work: Work, outcome: str) -> None:
    work.end(outcome)
    for path in (f"missions/{work.mission.ref}", f"sorties/{work.sortie.ref}"):
        assert work.client.get(path).status_code == 409, path
    for action in ("progress", "heartbeat", "complete"):
        assert work.client.post(f"sorties/{work.sortie.ref}/{action}").status_code == 409, action
    assert attempt_tokens.issue(sortie=work.sortie.id, attempt=1) == ""
    assert api.Client(work.token[:-1]).get(f"sorties/{work.sortie.ref}").status_code == 401


def test_the_work_gets_the_address_of_the_api(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    settings.FLEET_URL = "https://fleet.example.org"
    assert services.api_url() == "https://fleet.example.org/api/v1"
    settings.FLEET_URL = ""
    assert services.api_url() == "", "no web process of this home was ever started"
    ports.Ports(Home(tmp_path)).choose("web", preferred=0)  # records it
    settings.FLEET_HOME = Home(tmp_path)
    port = ports.recorded(settings.FLEET_HOME)["web"]
    assert services.api_url() == f"http://127.0.0.1:{port}/api/v1"
    settings.FLEET_HTTPS = True
    assert services.api_url() == "", "the site redirects everything to https, which it does not serve itself"


@pytest.mark.parametrize(
    "text, read",
    [
        ("", ""),
        ("https://Fleet.example.org/", "https://Fleet.example.org"),
        ("http://10.0.0.1:8000", "http://10.0.0.1:8000"),
    ],
)
def test_a_valid_address_of_the_site_is_accepted(text: str, read: str) -> None:
    assert datastores.parse_site_url(text) == read


@pytest.mark.parametrize(
    "text", ["fleet.example.org", "ftp://a", "https://u:p@a", "https://a/fleet", "https://a?b", "https://"]
)
def test_an_invalid_address_of_the_site_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        datastores.parse_site_url(text)


@pytest.fixture
def engine(transactional_db: None) -> Iterator[Engine]:
    new_engine = fleet.engine(slots=1)
    yield new_engine
    new_engine.stop(within_s=5)


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_the_token_is_not_stored_anywhere(engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    tell = (
        f'printf %s "$FLEET_TOKEN" > {tmp_path}/token; env | tee /dev/stderr; echo "0.5 $FLEET_TOKEN" > $FLEET_PROGRESS'
    )
    show = f'{tell}; printf %s "$FLEET_API" > {tmp_path}/api'
    with reached:
        mission = fleet.launch(
            {"one": {"run": f"{show}; exit 1"}, "two": {"run": f"echo ${{FLEET_TOKEN-none}} > {tmp_path}/second"}},
            folder=str(tmp_path),
        )
        fleet.run_to_end(engine, mission)
    token = (tmp_path / "token").read_text()
    attempt = Attempt.objects.get(sortie__key="one")
    assert attempt_tokens.matches(token, attempt.token)
    assert token.startswith(f"{ids.encode(ids.SORTIE, attempt.sortie_id)}.1.")
    assert (tmp_path / "api").read_text() == API
    assert (tmp_path / "second").read_text().strip() not in {token, "none"}
    rows = [str(list(model.objects.values())) for model in (Attempt, Output, Event, Entry)]
    assert "FLEET_TOKEN=srt_" in rows[1]
    assert [item for item in (*rows, caplog.text) if token.rpartition(".")[2] in item] == []
    assert api.Client(token).get(f"missions/{mission.ref}").status_code == 409


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_without_an_address_the_work_gets_no_token(engine: Engine) -> None:
    mission = fleet.launch({"one": {"run": "env"}})
    fleet.run_to_end(engine, mission)
    output = "".join(Output.objects.values_list("text", flat=True))
    assert "FLEET_RESULT=" in output
    assert "FLEET_TOKEN" not in output
    assert "FLEET_API" not in output
    assert Attempt.objects.get().token is None
