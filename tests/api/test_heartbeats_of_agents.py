"""External agents renew all their leases with one request; a bad token does not affect the other leases."""

from __future__ import annotations

from typing import Any

import pytest

from agents.models import Agent
from fleet import ids
from fleet.access.models import Role
from missions.models import Sortie
from tests.support import api, fleet

pytestmark = pytest.mark.django_db


@pytest.fixture
def agent() -> api.Client:
    return api.person("amy", Role.AGENT)


def claim_two(agent: api.Client) -> tuple[str, list[dict[str, Any]]]:
    """The path of its heartbeat, and two leases."""
    fleet.launch({"one": {}, "two": {}})
    fleet.open_to_external_agents()
    ref = agent.post("agents", {"type": "backend", "concurrency": 2}).json()["id"]
    leases = agent.post("sorties/claim", {"agent": ref, "count": 2}).json()["leases"]
    assert len(leases) == 2
    return f"agents/{ref}/heartbeat", leases


def lease_end(lease: dict[str, Any]) -> Any:
    return Sortie.objects.get(id=ids.decode(ids.SORTIE, lease["sortie"])).lease_until


@pytest.mark.parametrize(
    "bad",
    [
        "",
        " ",
        "nonsense",
        "srt_.1.x",
        "srt_….1.x",
        "\0",
        "\ud800",
        "x" * 10_000,
        "srt_01k5y5wbwae4ss8h2x3szthecg.99999999999.x",
    ],
)
def test_a_bad_token_loses_no_other_lease(agent: api.Client, bad: str) -> None:
    path, (first, second) = claim_two(agent)
    before = lease_end(first), lease_end(second)
    response = agent.post(path, {"tokens": [bad, first["token"], bad, second["token"]]})
    assert (response.status_code, set(response.json()["renewed"])) == (200, {first["sortie"], second["sortie"]})
    assert lease_end(first) > before[0]
    assert lease_end(second) > before[1]


@pytest.mark.parametrize("end", ["é", "x", "\ud800", "\0"])
def test_a_forged_token_does_not_shadow_the_valid_one_of_the_same_attempt(agent: api.Client, end: str) -> None:
    path, (first, second) = claim_two(agent)
    forged = first["token"].rpartition(".")[0] + "." + end
    response = agent.post(path, {"tokens": [first["token"], forged]})
    assert (response.status_code, response.json()["renewed"]) == (200, [first["sortie"]])
    assert agent.post(path, {"tokens": [forged, second["token"]]}).json()["renewed"] == [second["sortie"]]
    assert agent.post(path, {"tokens": [forged]}).status_code == 409


@pytest.mark.parametrize("bad", [1, None, True, ["x"], {"token": "x"}])
def test_a_token_that_is_no_string_is_invalid(agent: api.Client, bad: object) -> None:
    path, (first, _) = claim_two(agent)
    response = agent.post(path, {"tokens": [first["token"], bad]})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/tokens/1")


def test_an_agent_that_leaves_returns_its_sorties_and_is_not_lost(agent: api.Client) -> None:
    path, leases = claim_two(agent)
    leave = path.replace("heartbeat", "leave")
    assert api.person("bob", Role.AGENT).post(leave).status_code == 404
    assert agent.post(leave).status_code == 204
    assert set(Sortie.objects.values_list("state", "tries")) == {("queued", 0)}
    assert Agent.objects.get().state == "terminated"
    for lease in leases:
        assert agent.post(f"sorties/{lease['sortie']}/complete", {"token": lease["token"]}).status_code == 409
    assert agent.post(leave).status_code == 409
