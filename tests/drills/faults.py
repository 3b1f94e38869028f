"""Hits a running fleet at random: kills, halts, flushes and set clocks; what it halted goes on after a while."""

from __future__ import annotations

import random
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg

from tests.support import running

SPARED_S = 70.0  # between two blows at one service: fleet_up gives up what fails again and again
HALTED_S = (0.5, 9.0)  # the lease is 4 s
SHOTS = {  # how often each falls, to the others
    "kill a driver": 4,
    "halt a driver": 2,
    "kill a shim": 3,
    "halt a shim": 4,
    "kill an agent": 4,
    "halt an agent": 5,
    "halt an agent and its shims": 3,
    "halt the node and an agent": 2,
    "kill the node": 1,
    "kill the control loop": 1,
    "halt the control loop": 1,
    "kill Postgres": 1,
    "halt Postgres": 1,
    "kill Valkey": 1,
    "halt Valkey": 1,
    "flush": 2,
    "set the clock": 2,
}


class Clock:
    """The wall clock of a fleet's own processes, Postgres among them (tests/agents/node/shifted_clock.c)."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)  # Postgres may run as another user
        self.file, self.library = folder / "clock", folder / "shifted_clock.so"
        self.set(0.0)
        source = Path(__file__).parents[1] / "agents" / "node" / "shifted_clock.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self.library, source, "-lm"], check=True)

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "FLEET_TEST_CLOCK": str(self.file)}

    def set(self, seconds: float) -> None:
        """By so many seconds it is ahead from now on."""
        with self.file.open("r+b" if self.file.exists() else "wb") as file:
            file.write(struct.pack("=d", seconds))


class Fire(threading.Thread):
    """From its start until `over` is set. `error` is what surprised it."""

    def __init__(self, home: Path, *, chance: random.Random, clock: Clock, every_s: tuple[float, float]) -> None:
        super().__init__(daemon=True)
        self.home, self.chance, self.clock, self.every_s = home, chance, clock, every_s
        self.over = threading.Event()
        self.shots: Counter[str] = Counter()
        self.error: Exception | None = None
        self._halted: list[tuple[float, psutil.Process]] = []
        self._spared: dict[str, float] = {}

    def run(self) -> None:
        next_at = time.monotonic()
        try:
            while not self.over.wait(0.05):
                self._resume(by=time.monotonic())
                if time.monotonic() >= next_at:
                    next_at = time.monotonic() + self.chance.uniform(*self.every_s)
                    (shot,) = self.chance.choices(list(SHOTS), list(SHOTS.values()))
                    with suppress(psutil.Error, OSError, psycopg.Error, LookupError, ValueError):
                        if self._hit(shot):
                            self.shots[shot] += 1
        except Exception as error:
            self.error = error
        finally:
            self._resume(by=float("inf"))
            self.clock.set(0.0)

    def _hit(self, shot: str) -> bool:
        """Whether it hit anything."""
        verb, _, whom = shot.partition(" ")
        match shot:
            case "flush":
                with suppress(Exception):
                    running.valkey(self.home).flushall()
            case "set the clock":
                self.clock.set(self.chance.uniform(-30, 30))
            case "halt an agent and its shims":
                agent = self._agent()
                self._halt([agent, *_shims(agent)])
            case "halt the node and an agent":
                if not self._may_hit("node"):
                    return False
                agent = self._agent()
                self._halt([agent, *running.processes(self.home, "fleet_node")])
            case _:
                victims = self._victims(whom)
                if verb == "kill":
                    for victim in victims:
                        victim.kill()
                else:
                    self._halt(victims)
                return bool(victims)
        return True

    def _victims(self, whom: str) -> list[psutil.Process]:
        services: dict[str, Callable[[], list[psutil.Process]]] = {
            "the node": lambda: running.processes(self.home, "fleet_node"),
            "the control loop": lambda: running.processes(self.home, "fleet_control"),
            "Postgres": self._postgres,
            "Valkey": self._valkey,
        }
        if whom in services:
            return services[whom]() if self._may_hit(whom.removeprefix("the ")) else []
        agent = self._agent()
        if whom == "an agent":
            return [agent]
        shim = self.chance.choice(_shims(agent))
        return [shim] if whom == "a shim" else [self.chance.choice(shim.children(recursive=True))]

    def _may_hit(self, service: str) -> bool:
        now = time.monotonic()
        if now - self._spared.get(service, -SPARED_S) < SPARED_S:
            return False
        self._spared[service] = now
        return True

    def _agent(self) -> psutil.Process:
        return self.chance.choice(running.agents(self.home))

    def _postgres(self) -> list[psutil.Process]:
        postmaster = psutil.Process(running.postmaster(self.home))
        return [postmaster, *postmaster.children()]

    def _valkey(self) -> list[psutil.Process]:
        port = f":{running.endpoints(self.home).redis_url.rpartition(':')[2].partition('/')[0]}"
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.name().startswith("valkey") and port in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def _halt(self, processes: list[psutil.Process]) -> None:
        at = time.monotonic() + self.chance.uniform(*HALTED_S)
        for process in processes:
            process.suspend()
            self._halted.append((at, process))

    def _resume(self, *, by: float) -> None:
        due = [process for at, process in self._halted if at <= by]
        self._halted = [(at, process) for at, process in self._halted if at > by]
        for process in due:
            with suppress(psutil.Error):
                process.resume()


def _shims(agent: psutil.Process) -> list[psutil.Process]:
    return [process for process in agent.children() if "agents/shim" in " ".join(process.cmdline())]
