"""A mission goes back and forward, is forked, and moves to an empty database.

That it survives the death of every process is in test_from_up_to_down.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Fleet, running
from tests.support.waiting import until

pytestmark = [pytest.mark.xdist_group("checkpoints"), pytest.mark.timeout(300)]

TYPES = ("backend", "frontend", "testing", "documentation", "security", "performance")
# The third layer waits for a file, so that the test decides how long the middle of the mission lasts.
WAIT = {2: "until test -e go; do sleep 0.1; done; "}
WORK = 'echo "$FLEET_SORTIE" >> ledger; echo "\\"$FLEET_SORTIE\\"" > "$FLEET_RESULT"'
PLAN: dict[str, Any] = {
    "inputs": {"answer": {"default": "one"}},
    "defaults": {"timeout": "1m"},
    "sorties": {
        **{
            f"s{layer}-{number}": {
                "agent": TYPES[number],
                "run": WAIT.get(layer, "") + WORK,
                "needs": [f"s{layer - 1}-{number}", f"s{layer - 1}-{(number + 1) % 6}"] if layer else [],
            }
            for layer in range(4)
            for number in range(6)
        },
        "end": {
            "agent": "backend",
            "needs": [f"s3-{number}" for number in range(6)],
            "run": 'echo "\\"$FLEET_INPUT_ANSWER\\"" > "$FLEET_RESULT"',
        },
    },
}


def succeeded(fleet: Fleet, mission: str) -> dict[str, int]:
    """The sorties that have succeeded, with their attempts."""
    items = fleet.json("fleet_mission", "show", mission)["items"]
    return {item["key"]: item["attempt"] for item in items if item["state"] == "succeeded"}


def result(fleet: Fleet, mission: str) -> Any:
    items = fleet.json("fleet_mission", "show", mission)["items"]
    return next(item["result"] for item in items if item["key"] == "end")


def test_a_mission_goes_back_and_forward_and_moves_to_an_empty_database(tmp_path: Path) -> None:
    with running() as fleet:
        mission = fleet.launch(PLAN, folder=tmp_path)
        until(lambda: fleet.json("fleet_mission", "show", mission)["sorties"].get("running") == 6)
        middle = fleet.json("fleet_checkpoint", "create", "middle", "--mission", mission)
        assert len(succeeded(fleet, mission)) == 12
        (tmp_path / "go").touch()
        assert fleet.wait(mission)["state"] == "succeeded"
        attempts = succeeded(fleet, mission)
        assert (len(attempts), result(fleet, mission)) == (25, "one")

        forked = fleet.json("fleet_checkpoint", "fork", "middle", "--from", "s3-0", "--param", "answer=two", "--start")[
            "mission"
        ]["id"]
        assert fleet.wait(forked)["state"] == "succeeded"
        assert (result(fleet, forked), result(fleet, mission)) == ("two", "one")

        back = fleet.json("fleet_checkpoint", "restore", "middle")
        assert back["mission"]["state"] == "paused"
        assert set(succeeded(fleet, mission)) < set(attempts)
        forward = fleet.json("fleet_checkpoint", "restore", back["safety"])
        assert forward["mission"]["state"] == "succeeded"
        assert (succeeded(fleet, mission), result(fleet, mission)) == (attempts, "one")

        fleet.manage("fleet_checkpoint", "restore", middle["id"])
        fleet.manage("fleet_checkpoint", "create", "last", "--mission", mission)
        assert fleet.json("fleet_checkpoint", "verify")["damages"] == []
        shutil.copytree(fleet.home / ".flightline", tmp_path / "flightline")

    with running() as other:
        shutil.copytree(tmp_path / "flightline", other.home / ".flightline", dirs_exist_ok=True)
        output = other.manage("fleet_resume").stderr
        assert f"{mission} was restored" in output
        assert "is paused. Continue it: " in output  # as in its last checkpoint
        other.manage("fleet_resume", "--mission", mission)
        assert other.wait(mission)["state"] == "succeeded"
        assert len(succeeded(other, mission)) == 25
        assert result(other, mission) == "one"
