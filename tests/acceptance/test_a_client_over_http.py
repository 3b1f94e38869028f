"""A client written from the OpenAPI document alone signs in, launches, follows and reads; another user sees nothing of
it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from agents.drivers import sandbox
from tests.acceptance.conftest import CHECKOUT, Fleet, until

pytestmark = pytest.mark.xdist_group("fleet")
PASSWORD = "a long enough password"
ASK = """
import json, os, sys, urllib.error, urllib.request

def ask(path, body=None):
    headers = {"Authorization": "Bearer " + os.environ["FLEET_TOKEN"], "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{os.environ['FLEET_API']}/{path}", data, headers)) as answer:
            return [answer.status, json.loads(answer.read() or b"null")]
    except urllib.error.HTTPError as fault:
        return [fault.code, None]

me = os.environ["FLEET_ATTEMPT"].partition("/")[0]
results = ask(f"missions/{os.environ['FLEET_MISSION']}/sorties")[1]["results"]
said = [
    [one["result"] for one in results if one["key"] == "greet"], ask(f"sorties/{me}/progress", {"fraction": 0.5, "note": "asked"}),
    ask(f"sorties/{me}/complete", {})[0], ask("missions")[0], os.path.exists(sys.argv[1]),
]
open(os.environ["FLEET_RESULT"], "w").write(json.dumps(said))
"""


class Http:
    """What a client does that was written from the document: addresses are looked up by what they do."""

    def __init__(self, root: str) -> None:
        self.root, self.token = root.rstrip("/"), ""
        self.document = self._ask("GET", f"{self.root}/schema?format=json")[1]

    def call(self, operation: str, body: Any = None, **path: str) -> tuple[int, Any]:
        method, address = self._find(operation, **path)
        return self._ask(method, address, body)

    def follow(self, operation: str, **path: str) -> Iterator[Any]:
        """The events of a stream, from the first one on."""
        method, address = self._find(operation, **path)
        headers = {"Authorization": f"Bearer {self.token}", "Last-Event-ID": "0-0"}
        with urllib.request.urlopen(
            urllib.request.Request(address, headers=headers, method=method), timeout=30
        ) as answer:
            for line in answer:
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))

    def sign_in(self, name: str) -> None:
        status, pair = self.call("post_auth_token", {"username": name, "password": PASSWORD})
        assert status == 200, pair
        self.token = pair["access"]

    def _find(self, operation: str, **path: str) -> tuple[str, str]:
        """Method and address."""
        for address, methods in self.document["paths"].items():
            for method, told in methods.items():
                if told["operationId"] == operation:
                    named = re.sub(r"\{(\w+)\}", lambda found: path[found[1]], address)
                    return method.upper(), self.root.removesuffix("/api/v1") + named
        raise AssertionError(f"the document names no {operation}")

    def _ask(self, method: str, address: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as fault:
            return fault.code, json.loads(fault.read() or b"null")


def somebody(fleet: Fleet, name: str) -> Http:
    made = subprocess.run(
        [sys.executable, "manage.py", "fleet_user", "create", name],
        cwd=CHECKOUT, env=fleet.env, input=f"{PASSWORD}\n", capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    client = Http(fleet.json("fleet_status")["urls"]["api"])
    client.sign_in(name)
    return client


def test_a_client_written_from_the_document_works_and_another_user_sees_nothing(fleet: Fleet) -> None:
    ann, eve = somebody(fleet, "ann"), somebody(fleet, "eve")
    key = fleet.home / ".fleet" / "private" / "jwt.key"  # with which the web process has signed what they hold
    plan = {
        "mission": "Over HTTP",
        "inputs": {"who": {"required": True}},
        "sorties": {
            "greet": {"agent": "backend", "run": ["echo", "hello {{ inputs.who }}"]},
            "count": {"agent": "testing", "needs": ["greet"], "run": "wc -w < $FLEET_NEEDS/greet.json > $FLEET_RESULT"},
            "ask": {"agent": "backend", "needs": ["count"], "run": [sys.executable, "-c", ASK, str(key)]},
        },
    }
    status, refused = ann.call("post_missions", {"plan": plan, "params": {"who": "world"}})
    assert (status, refused["code"]) == (403, "forbidden")
    fleet.manage("fleet_user", "grant", "ann")
    status, mission = ann.call("post_missions", {"plan": plan, "params": {"who": "world"}})
    assert status == 201, mission
    ref = mission["id"]
    followed = []
    for event in ann.follow("get_missions_id_events_stream", ref=ref):
        followed.append(event)
        if event["kind"] == "mission.succeeded":
            break
    assert ann.call("get_missions_id_progress", ref=ref)[1]["state"] == "succeeded"
    _, sorties = ann.call("get_missions_id_sorties", ref=ref)
    greet, count, asked = sorties["results"]
    assert (greet["result"], count["state"]) == ({"output": "hello world\n"}, "succeeded")
    assert asked["result"] == [[greet["result"]], [204, None], 409, 403, not sandbox.available()[0]]
    assert key.exists()
    (attempt,) = ann.call("get_sorties_id_attempts", ref=asked["id"])[1]["results"]
    assert (attempt["progress"], attempt["note"]) == (0.5, "asked")
    _, log = ann.call("get_sorties_id_logs", ref=greet["id"])
    assert ("".join(piece["text"] for piece in log["pieces"]), log["ended"]) == ("hello world\n", True)
    _, events = ann.call("get_missions_id_events", ref=ref)
    assert sorted(events["results"], key=str) == sorted(followed, key=str)
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
    assert [(one["kind"], one["actor"]) for one in map(json.loads, trail)] == [("mission.launch", "user:ann")]
    until(lambda: fleet.manage("fleet_audit", "verify", check=False).returncode == 0)


def test_a_machine_key_works_until_it_is_revoked(fleet: Fleet) -> None:
    somebody(fleet, "carl")
    made = fleet.json("fleet_key", "create", "ci", "--user", "carl", "--scope", "read")
    client = Http(fleet.json("fleet_status")["urls"]["api"])
    client.token = made["key"]
    assert client.call("get_me")[1]["scopes"] == ["read"]
    assert client.call("post_missions", {"objective": "x", "agent": "backend"})[0] == 403
    assert made["key"] not in fleet.manage("fleet_key", "list", "--json").stdout
    fleet.manage("fleet_key", "revoke", made["prefix"])
    assert client.call("get_me")[0] == 401
