"""The supervisor of a home: starts services in the order of their needs, keeps them running, stops them in reverse.

A lock allows one per home. If it is killed, the kernel signals its children to stop (launch.py), and its successor
ends those that are left (children.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any

from fleet import errors
from fleet.config.home import Home
from fleet.services import journal, logfiles
from fleet.services.supervision import children, control_socket, lock, process_trees
from fleet.services.supervision.changes import ChangeNotifier
from fleet.services.supervision.runner import ServiceRunner
from fleet.services.supervision.service import Service

LOG_BYTES = 10_000_000
_ROUND_S = 5  # between two checks of logs and adopted processes
_MEMORY_S = 30  # between two measurements of memory, which read much of the kernel's tables
_EVENTS = 10  # recent events in the status
_STRAY_GRACE_S = 15  # for adopted processes to end on their own, such as an agent that hands back its sorties
_SHORT_STRAY_GRACE_S = 2  # after a second signal


class Supervisor:
    """Runs `services`, each listed after those that it needs. `kind` is part of the status: "fleet" or "services"."""

    def __init__(
        self, *, home: Home, kind: str, provider: str, services: Sequence[Service], say: Callable[[str], None]
    ) -> None:
        self.home = home
        self.kind = kind
        self.provider = provider
        self._output = say
        self._events: deque[journal.JournalEntry] = deque(maxlen=_EVENTS)
        self._changes = ChangeNotifier()
        self._stopping = False
        self._grace_skipped = False
        self._ready = False
        self._started_at = time.time()
        registry = children.ChildRegistry(home)
        self._registry = registry
        self._runners = {
            service.name: ServiceRunner(
                service, home=home, changes=self._changes, registry=registry, say=self.say, record=self._record
            )
            for service in services
        }

    async def run(
        self,
        work: Callable[[], Awaitable[int]] | None = None,
        *,
        introduce: Callable[[], Awaitable[None]] | None = None,
    ) -> int:
        """Start all services, do the work or wait for `stop`, and stop all services.

        `introduce` runs when all have started. The supervisor counts as ready only after it, so that `--detach` shows
        all that it says.

        Returns the exit code: the work's, 1 if a start failed, 130 if it was stopped before it was ready.
        """
        with lock.hold(self.home):
            await asyncio.to_thread(self._registry.end_orphans, self.say)
            self._listen_to_signals()
            async with control_socket.serve(self.home, self._handle_request):
                tasks = [asyncio.create_task(self._run_service(runner)) for runner in self._runners.values()]
                maintenance = asyncio.create_task(self._maintain())
                try:
                    return await self._run_work(work, introduce)
                finally:
                    maintenance.cancel()
                    self._listen_to_signals()  # the work may have installed its own handlers
                    await self._stop_all()
                    await asyncio.gather(*tasks)
                    await self._end_strays()

    def stop(self) -> None:
        self._stopping = True
        self._changes.notify_all()

    def say(self, line: str) -> None:
        """Show a line of progress to the user."""
        with contextlib.suppress(OSError, ValueError):  # a closed terminal must not prevent an orderly stop
            self._output(line)

    async def _run_work(
        self, work: Callable[[], Awaitable[int]] | None, introduce: Callable[[], Awaitable[None]] | None
    ) -> int:
        await self._changes.wait_for(lambda: self._stopping or self._all_started() or bool(self._failed()))
        if failed := self._failed():
            self.say(f"{failed[0].service.name} could not be started; stopping the other services.")
            return 1
        if self._stopping:
            return 130
        if introduce is not None:
            await introduce()
        self._ready = True
        return await (work or self.wait)()

    async def wait(self) -> int:
        """Wait until the supervisor is told to stop: the work of one that only runs its services."""
        await self._changes.wait_for(lambda: self._stopping)
        return 0

    def _all_started(self) -> bool:
        return all(
            runner.ready or (runner.state == "failed" and not runner.service.vital) for runner in self._runners.values()
        )

    def _failed(self) -> list[ServiceRunner]:
        return [runner for runner in self._runners.values() if runner.state == "failed" and runner.service.vital]

    async def _run_service(self, runner: ServiceRunner) -> None:
        needs = [self._runners[name] for name in runner.service.needs]
        await runner.run(lambda: all(need.ready for need in needs))

    async def _stop_all(self) -> None:
        for runner in reversed(self._runners.values()):
            if runner.pid is not None:
                self.say(f"{runner.service.name}: stopping")
            await runner.stop()

    def _record(self, *, kind: str, service: str, message: str, data: dict[str, float]) -> None:
        try:
            self._events.append(journal.append(self.home, kind=kind, service=service, message=message, data=data))
        except OSError as error:
            self.say(f"{service}: an event could not be recorded: {error}")

    async def _end_strays(self) -> None:
        grace_s = _SHORT_STRAY_GRACE_S if self._grace_skipped else _STRAY_GRACE_S
        for name in await asyncio.to_thread(process_trees.end_descendants, grace_s=grace_s):
            self.say(f"{name}: ended, because its parent left it running")

    async def _maintain(self) -> None:
        """Reap adopted processes, rotate logs and measure memory, until cancelled."""
        earlier: set[int] = set()
        next_measurement = time.monotonic() + _ROUND_S  # by then the services have started
        while True:
            zombies = process_trees.zombies()
            process_trees.reap(earlier & zombies)  # our own children are reaped sooner, by asyncio
            earlier = zombies
            try:
                logfiles.rotate_large(self.home, limit=LOG_BYTES)
            except OSError as error:
                self.say(f"The logs could not be rotated: {error}")
            if time.monotonic() >= next_measurement:
                next_measurement = time.monotonic() + _MEMORY_S
                await self._measure_memory()
            await asyncio.sleep(_ROUND_S)

    async def _measure_memory(self) -> None:
        pids = [runner.measured_pid for runner in self._runners.values() if runner.measured_pid is not None]
        sizes = await asyncio.to_thread(process_trees.memory, pids)
        for runner in self._runners.values():
            if runner.measured_pid in sizes:
                runner.record_memory(sizes[runner.measured_pid])

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            ignored = number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN  # under nohup
            if not ignored:
                loop.add_signal_handler(number, self._handle_signal)

    def _handle_signal(self) -> None:
        if self._stopping:  # a second signal: stop waiting for processes that take their time
            self._grace_skipped = True
            for runner in self._runners.values():
                runner.skip_grace()
        self.stop()

    async def _handle_request(self, request: dict[str, Any]) -> Any:
        match request:
            case {"do": "status", **options}:
                if options.get("measure", True):
                    await self._measure_memory()
                return self.status()
            case {"do": "restart", "name": str(name)}:
                if name not in self._runners:
                    raise errors.NotFound(
                        f"No service is called {name!r}.", hint=f"The services are: {', '.join(self._runners)}."
                    )
                return await self._runners[name].restart(seconds=60)
            case {"do": "stop"}:
                return self.stop()
        raise errors.Invalid(
            "The supervisor does not know this request.",
            hint="It may run another version of the fleet. Restart the fleet.",
        )

    def status(self) -> dict[str, Any]:
        now = time.monotonic()
        return {
            "running": True,
            "kind": self.kind,
            "provider": self.provider,
            "pid": os.getpid(),
            "ready": self._ready and not self._stopping,
            "stopping": self._stopping,
            "uptime_s": round(time.time() - self._started_at, 1),
            "services": [
                {
                    "name": runner.service.name,
                    "state": runner.state,
                    "healthy": runner.ready,
                    "pid": runner.pid,
                    "uptime_s": round(now - runner.healthy_since, 1) if runner.healthy_since else None,
                    "response_ms": round(runner.response_s * 1000, 2) if runner.response_s is not None else None,
                    "memory_bytes": runner.memory_bytes,
                    "restarts": runner.restarts,
                    "error": runner.error,
                    "log": str(logfiles.path(self.home, runner.service.name)) if runner.service.command else None,
                }
                for runner in self._runners.values()
            ],
            "events": [asdict(entry) for entry in self._events],
        }
