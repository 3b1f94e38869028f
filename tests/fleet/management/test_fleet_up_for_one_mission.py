"""`fleet_up --run` waits for missions that others have launched, and stops on request."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes.running import rows
from tests.support.processes.supervised import Checkout, checkout
from tests.support.waiting import until

pytestmark = [pytest.mark.xdist_group("services"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def home() -> Iterator[Checkout]:
    with checkout(env={"FLEET_HEARTBEAT_S": "0.5", "FLEET_GRACE_S": "1", "FLEET_DRAIN_S": "1"}) as new_home:
        yield new_home


def plan_waiting_for(flag: Path, name: str) -> str:
    """The path of a plan that succeeds once the flag exists."""
    plan = flag.with_suffix(".json")
    work = {"agent": "backend", "run": f"until test -e '{flag}'; do sleep 0.1; done"}
    plan.write_text(json.dumps({"mission": name, "sorties": {"work": work}}))
    return str(plan)


def fleet_up(home: Checkout, plan: str) -> subprocess.Popen[str]:
    """Start `fleet_up --run` in the folder of the plan, which its work can access; returns once its mission runs."""
    process = home.start("fleet_up", "--run", plan, cwd=Path(plan).parent, stderr=(home.root / "output").open("w"))
    home.until_ready()
    until(lambda: rows(home.root, "SELECT FROM missions_sortie WHERE state = 'running'"))
    return process


def test_it_waits_for_missions_that_others_have_launched(home: Checkout, tmp_path: Path) -> None:
    process = fleet_up(home, plan_waiting_for(tmp_path / "mine", "Mine"))
    theirs = home.json(
        "fleet_mission", "run", plan_waiting_for(tmp_path / "theirs", "Theirs"), "--detach", cwd=tmp_path
    )["id"]
    (tmp_path / "mine").touch()
    until(lambda: "1 mission still running: Theirs." in (home.root / "output").read_text())
    assert process.poll() is None
    watch_log = home.root / "watched"
    watching = home.start("fleet_mission", "watch", theirs, stderr=watch_log.open("w"))
    until(lambda: "running" in watch_log.read_text())
    (tmp_path / "theirs").touch()
    assert watching.wait(40) == 0
    assert process.wait(40) == 0
    assert home.left_behind() == []


def test_a_page_that_work_wrote_is_named_and_not_offered_to_a_browser(home: Checkout, tmp_path: Path) -> None:
    plan = tmp_path / "report.json"
    work = {"agent": "backend", "run": "echo '<script>alert(1)</script>' > report.html", "outputs": ["report.html"]}
    plan.write_text(json.dumps({"mission": "Report", "sorties": {"work": work}}))
    process = home.start("fleet_up", "--run", str(plan), cwd=tmp_path, stderr=(home.root / "output").open("w"))
    assert process.wait(120) == 0
    output = (home.root / "output").read_text()
    (line,) = [line for line in output.splitlines() if line.startswith("Report: ")]
    assert Path(line.removeprefix("Report: ")).read_text() == "<script>alert(1)</script>\n"
    assert "file:" not in output
    assert "open it in a browser only if you trust that" in output


def test_fleet_down_stops_it_before_its_mission_ends(home: Checkout, tmp_path: Path) -> None:
    # The last test of this home: its mission stays, and a later `--run` would wait for it.
    process = fleet_up(home, plan_waiting_for(tmp_path / "never", "Never"))
    home.manage("fleet_down", timeout=60)
    assert process.wait(40) == 130
    assert (home.root / "output").read_text().endswith("Unfinished missions continue when it is started again.\n")
    assert home.left_behind() == []
