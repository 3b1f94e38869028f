"""A client that knows only the OpenAPI document works, and another user sees nothing of what it does."""

from __future__ import annotations

import json
import sys

import pytest

from agents.confinement import probe
from tests.acceptance.conftest import Fleet
from tests.support.documented_client import DocumentedClient
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("fleet")
CLIENT = """
import json, os, sys, urllib.error, urllib.request

def call(path, body=None):
    headers = {"Authorization": "Bearer " + os.environ["FLEET_TOKEN"], "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{os.environ['FLEET_API']}/{path}", data, headers)) as answer:
            return [answer.status, json.loads(answer.read() or b"null")]
    except urllib.error.HTTPError as error:
        return [error.code, None]

me = os.environ["FLEET_ATTEMPT"].partition("/")[0]
results = call(f"missions/{os.environ['FLEET_MISSION']}/sorties")[1]["results"]
answers = [
    [sortie["result"] for sortie in results if sortie["key"] == "greet"],
    call(f"sorties/{me}/progress", {"fraction": 0.5, "note": "asked"}),
    call(f"sorties/{me}/complete", {})[0], call("missions")[0], os.path.exists(sys.argv[1]),
]
open(os.environ["FLEET_RESULT"], "w").write(json.dumps(answers))
"""


def test_a_client_written_from_the_document_works_and_another_user_sees_nothing(fleet: Fleet) -> None:
    ann, eve = fleet.sign_up("ann"), fleet.sign_up("eve")
    key = fleet.home / ".fleet" / "private" / "jwt.key"  # with which the web process has signed what they hold
    plan = {
        "mission": "Over HTTP",
        "inputs": {"who": {"required": True}},
        "sorties": {
            "greet": {"agent": "backend", "run": ["echo", "hello {{ inputs.who }}"]},
            "count": {"agent": "testing", "needs": ["greet"], "run": "wc -w < $FLEET_NEEDS/greet.json > $FLEET_RESULT"},
            "ask": {"agent": "backend", "needs": ["count"], "run": [sys.executable, "-c", CLIENT, str(key)]},
        },
    }
    status, refusal = ann.call("post_missions", {"plan": plan, "params": {"who": "world"}})
    assert (status, refusal["code"]) == (403, "forbidden")
    fleet.manage("fleet_user", "grant", "ann")
    status, mission = ann.call("post_missions", {"plan": plan, "params": {"who": "world"}})
    assert status == 201, mission
    ref = mission["id"]
    streamed_events = []
    for event in ann.follow("get_missions_id_events_stream", ref=ref):
        streamed_events.append(event)
        if event["kind"] == "mission.succeeded":
            break
    assert ann.call("get_missions_id_progress", ref=ref)[1]["state"] == "succeeded"
    _, sorties = ann.call("get_missions_id_sorties", ref=ref)
    greet, count, request = sorties["results"]
    assert (greet["result"], count["state"]) == ({"output": "hello world\n"}, "succeeded")
    assert request["result"] == [[greet["result"]], [204, None], 409, 403, bool(probe.sandbox_problem())]
    assert key.exists()
    (attempt,) = ann.call("get_sorties_id_attempts", ref=request["id"])[1]["results"]
    assert (attempt["progress"], attempt["note"]) == (0.5, "asked")
    _, log = ann.call("get_sorties_id_logs", ref=greet["id"])
    assert ("".join(piece["text"] for piece in log["pieces"]), log["ended"]) == ("hello world\n", True)
    _, events = ann.call("get_missions_id_events", ref=ref)
    assert sorted(events["results"], key=str) == sorted(streamed_events, key=str)
    assert {"mission.running", "sortie.running", "sortie.succeeded", "mission.succeeded"} <= {
        event["kind"] for event in events["results"]
    }
    assert ann.call("get_missions_id_graph", ref=ref)[1]["edges"] == [
        {"upstream": "greet", "sortie": "count"},
        {"upstream": "count", "sortie": "ask"},
    ]

    for operation in (
        "get_missions_id",
        "get_missions_id_sorties",
        "get_missions_id_events",
        "post_missions_id_cancel",
    ):
        assert eve.call(operation, {} if operation.startswith("post") else None, ref=ref)[0] == 404, operation
    assert eve.call("get_sorties_id_logs", ref=greet["id"])[0] == 404
    assert ref not in json.dumps([eve.call("get_missions")[1], eve.call("get_events")[1], eve.call("get_agents")[1]])

    trail = fleet.manage("fleet_audit", "list", "--subject", ref, "--json").stdout.splitlines()
    assert [(item["kind"], item["actor"]) for item in map(json.loads, trail)] == [("mission.launch", "user:ann")]
    until(lambda: fleet.manage("fleet_audit", "verify", check=False).returncode == 0)


def test_a_machine_key_works_until_it_is_revoked(fleet: Fleet) -> None:
    fleet.sign_up("carl")
    key = fleet.json("fleet_key", "create", "ci", "--user", "carl", "--scope", "read")
    client = DocumentedClient(fleet.api)
    client.token = key["key"]
    assert client.call("get_me")[1]["scopes"] == ["read"]
    assert client.call("post_missions", {"objective": "x", "agent": "backend"})[0] == 403
    assert key["key"] not in fleet.manage("fleet_key", "list", "--json").stdout
    fleet.manage("fleet_key", "revoke", key["prefix"])
    assert client.call("get_me")[0] == 401
