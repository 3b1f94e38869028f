"""A fleet is backed up at work and restored, in its own home and in a new one, with the commands of docs/backup.md."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Fleet, running
from tests.support.paths import CHECKOUT
from tests.support.waiting import until

pytestmark = [pytest.mark.xdist_group("backups"), pytest.mark.timeout(300)]

PAGE = (CHECKOUT / "docs" / "backup.md").read_text()
WORK = 'until test -e go; do sleep 0.1; done; echo "$FLEET_SORTIE" >> ledger'
PLAN: dict[str, Any] = {
    "defaults": {"timeout": "2m"},
    "sorties": {
        "early": {"agent": "testing", "run": "echo early >> ledger"},
        "first": {"agent": "backend", "run": WORK},
        "second": {"agent": "frontend", "run": WORK, "needs": ["first"]},
        "third": {"agent": "backend", "run": WORK, "needs": ["second"]},
    },
}


def blocks() -> list[list[list[str]]]:
    """The commands of each block of the page, as words without `fleet`, and as `manage.py` spells them."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL):
        words = [shlex.split(line, comments=True) for line in block.splitlines()]
        assert all(line[0] == "fleet" for line in words)
        found.append([[f"fleet_{line[1]}", *line[2:]] for line in words])
    return found


def states(fleet: Fleet, mission: str) -> dict[str, str]:
    return {item["key"]: item["state"] for item in fleet.json("fleet_mission", "show", mission)["items"]}


def finish(fleet: Fleet, mission: str, folder: Path) -> None:
    """Let the mission end, and check that each sortie ran exactly once."""
    (folder / "go").touch()
    assert fleet.wait(mission)["state"] == "succeeded"
    assert Counter((folder / "ledger").read_text().split()) == dict.fromkeys(PLAN["sorties"], 1)
    attempts = {item["key"]: item["attempt"] for item in fleet.json("fleet_mission", "show", mission)["items"]}
    assert attempts["early"] == 1
    assert attempts["first"] > 1_000


def test_a_fleet_is_backed_up_and_restored_with_the_commands_of_the_page(tmp_path: Path) -> None:
    while_running, restoring = blocks()
    with running() as fleet:
        mission = fleet.launch(PLAN, folder=tmp_path)
        until(lambda: states(fleet, mission)["early"] == "succeeded" and states(fleet, mission)["first"] == "running")
        for command in while_running:
            fleet.manage(*command)
        later = fleet.launch({"sorties": {"a": {"agent": "backend", "driver": "scripted"}}})
        cold = Fleet(fleet.home, fleet.env)
        result = fleet.manage("fleet_backup", "restore", "latest", check=False)
        assert "The fleet is running here" in result.stderr
        for command in restoring:
            cold.manage(*command, timeout=120)
        assert cold.manage("fleet_mission", "show", later, check=False).returncode == 1
        assert cold.json("fleet_audit", "verify")["ok"]
        finish(cold, mission, tmp_path)


def test_a_backup_is_restored_into_a_new_home(tmp_path: Path) -> None:
    """A new home has other credentials, and its Postgres counts transactions from the start."""
    folder = tmp_path / "copy of backups"
    with running() as fleet:
        mission = fleet.launch(PLAN, folder=tmp_path)
        until(lambda: states(fleet, mission)["early"] == "succeeded" and states(fleet, mission)["first"] == "running")
        fleet.manage("fleet_backup", "create", "--folder", str(folder))
        events = fleet.manage("fleet_mission", "watch", mission, "--jsonl", "--timeout", "1", check=False).stdout
    (backup,) = [path for path in folder.iterdir() if path.is_dir()]

    with running(restored_from=backup) as fleet:
        assert states(fleet, mission)["early"] == "succeeded"
        report = fleet.json("fleet_audit", "verify")
        assert (report["ok"], report["gaps"]) == (True, [])
        finish(fleet, mission, tmp_path)
        assert "sortie.running" in events
        assert fleet.json("fleet_checkpoint", "create", "--mission", mission)
        assert fleet.json("fleet_backup", "create", "--folder", str(tmp_path / "again"))["damaged"] == ""
