"""Injects random faults into a running fleet: kills, halts, flushes of Redis and steps of the clock."""

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

from tests.support.paths import CHECKOUT
from tests.support.processes import running

SERVICE_INTERVAL_S = (
    70.0  # between two faults of one service, because fleet_up gives up a service that fails repeatedly
)
HALTED_S = (0.5, 9.0)  # the lease is 4 s
FAULTS = {  # relative frequencies
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
        source = CHECKOUT / "tests" / "agents" / "node" / "shifted_clock.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self.library, source, "-lm"], check=True)

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "FLEET_TEST_CLOCK": str(self.file)}

    def set(self, seconds: float) -> None:
        """Set how many seconds the clock is ahead from now on."""
        with self.file.open("r+b" if self.file.exists() else "wb") as file:
            file.write(struct.pack("=d", seconds))


class FaultInjector(threading.Thread):
    """Injects faults from its start until `end` is set. `counts` are by fault; `error` is an unexpected one."""

    def __init__(self, home: Path, *, rng: random.Random, clock: Clock, every_s: tuple[float, float]) -> None:
        super().__init__(daemon=True)
        self.home, self.rng, self.clock, self.every_s = home, rng, clock, every_s
        self.end = threading.Event()
        self.counts: Counter[str] = Counter()
        self.error: Exception | None = None
        self._halted: list[tuple[float, psutil.Process]] = []
        self._last_fault: dict[str, float] = {}

    def run(self) -> None:
        next_at = time.monotonic()
        try:
            while not self.end.wait(0.05):
                self._resume(by=time.monotonic())
                if time.monotonic() >= next_at:
                    next_at = time.monotonic() + self.rng.uniform(*self.every_s)
                    (fault,) = self.rng.choices(list(FAULTS), list(FAULTS.values()))
                    with suppress(psutil.Error, OSError, psycopg.Error, LookupError, ValueError):
                        if self._inject(fault):
                            self.counts[fault] += 1
        except Exception as error:
            self.error = error
        finally:
            self._resume(by=float("inf"))
            self.clock.set(0.0)

    def _inject(self, fault: str) -> bool:
        """Inject a fault. Returns False if it affected nothing."""
        verb, _, target = fault.partition(" ")
        match fault:
            case "flush":
                with suppress(Exception):
                    running.valkey(self.home).flushall()
            case "set the clock":
                self.clock.set(self.rng.uniform(-30, 30))
            case "halt an agent and its shims":
                agent = self._agent()
                self._halt([agent, *_shims(agent)])
            case "halt the node and an agent":
                if not self._may_disturb("node"):
                    return False
                agent = self._agent()
                self._halt([agent, *running.processes(self.home, "fleet_node")])
            case _:
                processes = self._processes(target)
                if verb == "kill":
                    for process in processes:
                        process.kill()
                else:
                    self._halt(processes)
                return bool(processes)
        return True

    def _processes(self, target: str) -> list[psutil.Process]:
        services: dict[str, Callable[[], list[psutil.Process]]] = {
            "the node": lambda: running.processes(self.home, "fleet_node"),
            "the control loop": lambda: running.processes(self.home, "fleet_control"),
            "Postgres": self._postgres,
            "Valkey": self._valkey,
        }
        if target in services:
            return services[target]() if self._may_disturb(target.removeprefix("the ")) else []
        agent = self._agent()
        if target == "an agent":
            return [agent]
        shim = self.rng.choice(_shims(agent))
        return [shim] if target == "a shim" else [self.rng.choice(shim.children(recursive=True))]

    def _may_disturb(self, service: str) -> bool:
        now = time.monotonic()
        if now - self._last_fault.get(service, -SERVICE_INTERVAL_S) < SERVICE_INTERVAL_S:
            return False
        self._last_fault[service] = now
        return True

    def _agent(self) -> psutil.Process:
        return self.rng.choice(running.agents(self.home))

    def _postgres(self) -> list[psutil.Process]:
        postmaster = psutil.Process(running.postmaster(self.home))
        return [postmaster, *postmaster.children()]

    def _valkey(self) -> list[psutil.Process]:
        port = f":{running.endpoints(self.home).redis_url.rpartition(':')[2].partition('/')[0]}"
        matches = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.name().startswith("valkey") and port in " ".join(process.cmdline()):
                    matches.append(process)
        return matches

    def _halt(self, processes: list[psutil.Process]) -> None:
        at = time.monotonic() + self.rng.uniform(*HALTED_S)
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
