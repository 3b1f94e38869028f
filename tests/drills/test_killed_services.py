"""The control loop and Postgres are killed during missions.

test_ten_thousand_sorties_under_faults.py kills them at random.
"""

from __future__ import annotations

import os
import signal
import time

from tests.acceptance.conftest import Fleet
from tests.acceptance.test_faults_of_the_fleet import chain, check_ledger, home
from tests.support.processes import running
from tests.support.waiting import until


def test_a_killed_control_loop_is_restarted_and_its_work_continues(fleet: Fleet) -> None:
    retry = {"max_attempts": 2, "backoff": "0.5s"}
    (control,) = running.processes(home(fleet), "fleet_control")
    mission = fleet.launch({"sorties": chain(3, "backend", retry=retry, **{"with": {"fail_times": 1}})})
    control.kill()
    document = fleet.wait(mission, seconds=60)
    assert document["state"] == "succeeded", document
    check_ledger(fleet, mission)


def test_a_killed_postgres_delays_a_mission_and_loses_nothing(fleet: Fleet) -> None:
    mission = fleet.launch({"sorties": chain(10, "backend", "testing", **{"with": {"seconds": 0.3}})})
    os.kill(running.postmaster(home(fleet)), signal.SIGKILL)
    time.sleep(0.5)
    until(lambda: fleet.manage("fleet_status", check=False).returncode == 0)
    document = fleet.wait(mission, seconds=60)
    assert document["sorties"]["succeeded"] == 10, document
    check_ledger(fleet, mission)
