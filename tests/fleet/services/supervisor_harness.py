"""A supervisor in the test's own process, whose services are small, real processes."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil

from fleet import errors
from fleet.config.home import Home
from fleet.services import journal
from fleet.services.supervision.service import Backoff, Command, Service
from fleet.services.supervision.supervisor import Supervisor

QUICK = Backoff(first_s=0.01, attempts=2)
FOREVER = "import time; time.sleep(600)"


class SupervisorHarness:
    """A supervisor in this process, with its output and its journal."""

    def __init__(self, root: Path, *services: Service) -> None:
        self.home = Home(root)
        self.home.create_folders()
        self.output: list[str] = []
        self.supervisor = Supervisor(
            home=self.home, kind="services", provider="trial", services=services, say=self.output.append
        )

    def run(self, work: Callable[[], Awaitable[Any]]) -> int:
        """Start all services, do the work, and stop them. Returns the exit code; no process may be left."""

        async def do_work() -> int:
            await work()
            return 0

        before = set(psutil.Process().children(recursive=True))
        code = asyncio.run(asyncio.wait_for(self.supervisor.run(do_work), 120))
        assert set(psutil.Process().children(recursive=True)) <= before
        return code

    def run_until(self, condition: Callable[[], bool]) -> int:
        """Run the supervisor without waiting for readiness, and stop it once the condition holds."""

        async def run_and_stop() -> int:
            running = asyncio.create_task(self.supervisor.run())
            await self.until(condition)
            self.supervisor.stop()
            return await running

        return asyncio.run(asyncio.wait_for(run_and_stop(), 120))

    async def until(self, condition: Callable[[], bool], *, within_s: float = 60) -> None:
        end = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < end, f"not true within {within_s} s: {self.output}"
            await asyncio.sleep(0.01)

    def service(self, name: str) -> dict[str, Any]:
        return next(item for item in self.supervisor.status()["services"] if item["name"] == name)

    def kinds(self) -> list[str]:
        return [entry.kind for entry in journal.last(self.home, 100)]


def python(code: str, *arguments: str, cwd: Path = Path("/")) -> Callable[[], Command]:
    return lambda: Command(argv=(sys.executable, "-c", code, *arguments), cwd=cwd)


def probe_of(path: Path) -> Callable[[], Awaitable[None]]:
    async def probe() -> None:
        if not path.exists():
            raise errors.Unavailable("It is not there yet.")

    return probe


def new_service(name: str, code: str = FOREVER, **more: Any) -> Service:
    return Service(name=name, **{"command": python(code), "probe": None, "backoff": QUICK, "grace_s": 3, **more})


async def no_work() -> None:
    pass
