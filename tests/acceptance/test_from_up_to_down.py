"""A whole session over the API: up, sign in, launch, follow, capture, kill everything, up, read, verify, down."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import START_S, Fleet, running
from tests.support.documented_client import DocumentedClient, LiveEvents
from tests.support.processes import child_coverage
from tests.support.processes.running import all_processes, kill_everything
from tests.support.waiting import until

pytestmark = [pytest.mark.xdist_group("checkpoints"), pytest.mark.timeout(400)]

TYPES = ("backend", "frontend", "testing", "documentation", "security", "performance")
# The third layer waits for a file, so that the test decides how long the middle of the mission lasts.
WAIT = {2: "until test -e go; do sleep 0.1; done; "}
PLAN: dict[str, Any] = {
    "mission": "The whole way",
    "defaults": {"timeout": "1m"},
    "sorties": {
        **{
            f"s{layer}-{number}": {
                "agent": TYPES[number],
                "run": WAIT.get(layer, "") + 'echo "$FLEET_SORTIE" >> ledger',
                "needs": [f"s{layer - 1}-{number}", f"s{layer - 1}-{(number + 1) % 6}"] if layer else [],
            }
            for layer in range(4)
            for number in range(6)
        },
        "report": {
            "agent": "documentation",
            "needs": [f"s3-{number}" for number in range(6)],
            "run": 'sort -u ledger > "$FLEET_SCRATCH/report.txt"',
            "outputs": ["report.txt"],
        },
    },
}


def attempts(client: DocumentedClient, mission: str) -> dict[str, int]:
    """The attempts of the sorties that have succeeded."""
    sorties = client.all("get_missions_id_sorties", ref=mission)
    return {sortie["key"]: sortie["attempt"] for sortie in sorties if sortie["state"] == "succeeded"}


def running_sorties(client: DocumentedClient, mission: str) -> list[str]:
    sorties = client.all("get_missions_id_sorties", ref=mission)
    return [sortie["key"] for sortie in sorties if sortie["state"] == "running"]


def sign_in_as_admin(fleet: Fleet) -> DocumentedClient:
    credentials = json.loads((fleet.home / ".fleet" / "private" / "credentials.json").read_text())
    admin = DocumentedClient(fleet.api)
    admin.sign_in("admin", credentials["admin_password"])
    return admin


def test_a_mission_survives_the_death_of_every_process_and_its_user_misses_no_event(tmp_path: Path) -> None:
    home = tmp_path / "work"
    home.mkdir()
    with running(FLEET_FOLDERS=str(tmp_path)) as fleet:
        fleet_home = fleet.home / ".fleet"
        ann, admin = fleet.sign_up("ann"), sign_in_as_admin(fleet)
        fleet.manage("fleet_user", "grant", "ann")
        status, body = admin.call("post_agents_spawn", {"type": "backend"})
        assert status == 202, body
        until(lambda: [agent["state"] for agent in ann.all("get_agents")] == ["idle"] * 7)

        status, new_mission = ann.call("post_missions", {"plan": PLAN, "folder": str(home)})
        assert status == 201, new_mission
        mission = new_mission["id"]
        first = LiveEvents(ann, mission, cursor="0-0")
        until(lambda: len(attempts(ann, mission)) == 12 and len(running_sorties(ann, mission)) == 6)
        status, checkpoint = ann.call("post_checkpoints", {"mission": mission, "name": "middle"})
        assert status == 201, checkpoint
        before = attempts(ann, mission)
        until(lambda: Counter(first.kinds)["sortie.running"] == 18)

        assert kill_everything(fleet_home) > 10
        assert all_processes(fleet_home) == []
        first.wait(seconds=10)
        assert first.end == {}
        started = Fleet(fleet.home, fleet.env).manage(
            "fleet_up", "--detach", timeout=START_S, env=child_coverage.environment()
        )
        assert f"{mission} The whole way: continues" in started.stderr

        second = LiveEvents(ann, mission, cursor=first.cursor)  # with the token from before
        (home / "go").touch()
        second.wait(seconds=90)
        assert second.end["state"] == "succeeded"
        after = attempts(ann, mission)
        assert len(after) == 25
        assert after.items() >= before.items(), "no sortie that had succeeded ran again"
        runs = Counter((home / "ledger").read_text().split())
        assert all(1 <= runs[key] <= after[key] for key in after if key != "report"), runs
        events_by_id = {event["id"]: event for event in (*first.events, *second.events)}
        assert events_by_id == {event["id"]: event for event in ann.all("get_missions_id_events", ref=mission)}

        (report,) = ann.all("get_missions_id_artifacts", ref=mission)
        text = ann.read("get_artifacts_id_content", ref=report["id"]).decode()
        assert text.split() == sorted(key for key in after if key != "report")
        assert ann.call("post_checkpoints_id_verify", ref=checkpoint["id"])[1]["damages"] == []
        trail = {entry["kind"] for entry in admin.all("get_audit")}
        assert {"sign_in", "agent.spawn", "mission.launch", "checkpoint.create"} <= trail, trail
        until(lambda: fleet.json("fleet_audit", "verify")["waiting"] == 0)
        assert fleet.json("fleet_audit", "verify")["ok"]

        fleet.manage("fleet_down", timeout=90)
        until(lambda: all_processes(fleet_home) == [])
