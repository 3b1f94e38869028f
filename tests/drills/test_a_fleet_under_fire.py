"""A fleet whose parts are killed, halted and flushed while it works: every sortie succeeds, and is accepted once."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests.acceptance.conftest import Fleet, until
from tests.acceptance.test_faults_of_the_fleet import chain, hold_the_ledger, home
from tests.support import running

TYPES = ("backend", "frontend", "testing", "security", "performance", "documentation")
FIRE_S = 180
SORTIES = 1_500
SHOTS = {  # how often each falls, to the others
    "kill an agent": 4,
    "halt an agent": 3,
    "flush": 4,
    "kill the control loop": 1,
    "kill Redis": 1,
    "kill Postgres": 1,
}


def test_a_killed_control_loop_is_started_again_and_what_waits_for_it_goes_on(fleet: Fleet) -> None:
    retry = {"max_attempts": 2, "backoff": "0.5s"}
    (control,) = running.processes(home(fleet), "fleet_control")
    mission = fleet.launch({"sorties": chain(3, "backend", retry=retry, **{"with": {"fail_times": 1}})})
    control.kill()
    shown = fleet.wait(mission, seconds=60)
    assert shown["state"] == "succeeded", shown
    hold_the_ledger(fleet, mission)


def test_a_killed_postgres_delays_a_mission_and_loses_nothing(fleet: Fleet) -> None:
    mission = fleet.launch({"sorties": chain(10, "backend", "testing", **{"with": {"seconds": 0.3}})})
    os.kill(running.postmaster(home(fleet)), signal.SIGKILL)
    time.sleep(0.5)
    until(lambda: fleet.manage("fleet_status", check=False).returncode == 0, within_s=60)
    shown = fleet.wait(mission, seconds=60)
    assert shown["sorties"]["succeeded"] == 10, shown
    hold_the_ledger(fleet, mission)


def test_a_soak_under_fire_loses_nothing_and_accepts_nothing_twice(fleet: Fleet, tell: Callable[[str], None]) -> None:
    sorties: dict[str, Any] = {}
    for number in range(SORTIES):
        work = (
            {"run": "sleep 0.$((1 + $$ % 9)); echo done"}
            if number % 3
            else {"with": {"seconds": 0.4}, "driver": "scripted"}
        )
        sorties[f"s{number}"] = {
            "agent": TYPES[number % 6], **work, "needs": [f"s{number - 30}"] if number >= 30 else [],
        }  # fmt: skip
    seed = time.time_ns() % 1_000
    began = time.monotonic()
    mission = fleet.launch({"sorties": sorties})
    fire = Fire(home(fleet), random.Random(seed))
    fire.start()
    fleet.manage("fleet_mission", "watch", mission, "--timeout", "900", check=False, timeout=950)
    fire.over.set()
    fire.join()
    shown = fleet.json("fleet_mission", "show", mission)
    lost, charged = (sum(item[what] for item in shown["items"]) for what in ("attempt", "tries"))
    tell(
        f"seed {seed}: {time.monotonic() - began:.0f} s; {dict(fire.shots)}; {lost - SORTIES} attempts lost, {charged} tries"
    )
    assert fire.fault is None, fire.fault
    assert shown["sorties"]["succeeded"] == len(sorties), [
        item for item in shown["items"] if item["state"] != "succeeded"
    ]
    hold_the_ledger(fleet, mission)


class Fire(threading.Thread):
    """Hits one part after the other, for as long as FIRE_S; then leaves the fleet in peace."""

    def __init__(self, home: Path, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.home, self.chance = home, chance
        self.over = threading.Event()
        self.shots: Counter[str] = Counter()
        self.fault: Exception | None = None

    def run(self) -> None:
        until_s = time.monotonic() + FIRE_S
        try:
            while time.monotonic() < until_s and not self.over.wait(self.chance.uniform(1, 4)):
                (shot,) = self.chance.choices(list(SHOTS), list(SHOTS.values()))
                with suppress(psutil.Error, OSError, psycopg.OperationalError):
                    self._hit(shot)
                    self.shots[shot] += 1
        except Exception as fault:
            self.fault = fault

    def _hit(self, shot: str) -> None:
        match shot:
            case "kill an agent":
                self._one(running.agents(self.home)).kill()
            case "halt an agent":
                agent = self._one(running.agents(self.home))
                agent.suspend()
                self.over.wait(self.chance.uniform(1, 7))  # the lease is 4 s
                agent.resume()
            case "flush":
                with suppress(OSError):
                    running.valkey(self.home).flushall()
            case "kill the control loop":
                self._one(running.processes(self.home, "fleet_control")).kill()
            case "kill Redis":
                (valkey,) = [p for p in psutil.process_iter() if _listens(p, running.doors(self.home).redis_url)]
                valkey.kill()
            case "kill Postgres":
                os.kill(running.postmaster(self.home), signal.SIGKILL)

    def _one(self, found: list[psutil.Process]) -> psutil.Process:
        if not found:
            raise psutil.NoSuchProcess(0)
        return self.chance.choice(found)


def _listens(process: psutil.Process, url: str) -> bool:
    with suppress(psutil.Error):
        return process.name().startswith("valkey") and f":{url.rpartition(':')[2].partition('/')[0]}" in " ".join(
            process.cmdline()
        )
    return False
