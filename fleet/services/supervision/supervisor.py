"""The supervisor: it starts a list of services, each when what it needs is healthy, keeps them, and stops them in
reverse order. It stands below the database and uses none. One a home, held by a lock.

When it is killed, the kernel asks its children to stop (launch.py), and its successor makes sure that they have.
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
from fleet.services.supervision import adoption, children, control_socket, lock, memory
from fleet.services.supervision.changes import Changes
from fleet.services.supervision.runner import ServiceRunner
from fleet.services.supervision.service import Service

LOG_BYTES = 10_000_000
_ROUND_S = 5  # between two looks at memory and logs
_EVENTS = 10  # the last ones, for `status`
_STRAY_S = 15  # what an adopted process gets to end by itself; a worker hands back what it flies meanwhile
_HURRIED_S = 2


class Supervisor:
    """Keeps `services` (in an order in which each comes after what it needs). `kind` tells others what runs here."""

    def __init__(
        self, *, home: Home, kind: str, provider: str, services: Sequence[Service], say: Callable[[str], None]
    ) -> None:
        self.home = home
        self.kind = kind
        self.provider = provider
        self._speak = say
        self._events: deque[journal.Entry] = deque(maxlen=_EVENTS)
        self._changes = Changes()
        self._stopping = False
        self._hurried = False
        self._ready = False
        self._began = time.time()
        register = children.Register(home)
        self._register = register
        self._keepers = {
            service.name: ServiceRunner(
                service, home=home, changes=self._changes, register=register, say=self.say, note=self._note
            )
            for service in services
        }

    async def run(self, work: Callable[[], Awaitable[int]] | None = None) -> int:
        """Start all; do the work, or wait to be told to stop; stop all.

        The exit code is the work's; 1 if a start failed, 130 if it was told to stop before it was ready.
        """
        with lock.hold(self.home):
            await asyncio.to_thread(self._register.end_orphans, self.say)
            self._listen_to_signals()
            async with control_socket.serve(self.home, self._answer):
                tasks = [asyncio.create_task(self._keep(keeper)) for keeper in self._keepers.values()]
                rounds = asyncio.create_task(self._rounds())
                try:
                    return await self._serve(work)
                finally:
                    rounds.cancel()
                    self._listen_to_signals()  # the work may have listened itself
                    await self._stop_all()
                    await asyncio.gather(*tasks)
                    await self._end_strays()

    def stop(self) -> None:
        self._stopping = True
        self._changes.announce()

    def say(self, line: str) -> None:
        """Tell whoever watches, if anybody still does."""
        with contextlib.suppress(OSError, ValueError):  # a terminal that was closed must not keep us from stopping
            self._speak(line)

    async def _serve(self, work: Callable[[], Awaitable[int]] | None) -> int:
        await self._changes.until(lambda: self._stopping or self._complete() or bool(self._broken()))
        if broken := self._broken():
            self.say(f"{broken[0].service.name} cannot be started, so the rest is stopped again.")
            return 1
        if self._stopping:
            return 130
        self._ready = True
        return await (work or self.wait)()

    async def wait(self) -> int:
        """The work of one that only keeps its services: until it is told to stop."""
        await self._changes.until(lambda: self._stopping)
        return 0

    def _complete(self) -> bool:
        return all(
            keeper.ready or (keeper.state == "failed" and not keeper.service.vital) for keeper in self._keepers.values()
        )

    def _broken(self) -> list[ServiceRunner]:
        return [keeper for keeper in self._keepers.values() if keeper.state == "failed" and keeper.service.vital]

    async def _keep(self, keeper: ServiceRunner) -> None:
        needs = [self._keepers[name] for name in keeper.service.needs]
        await keeper.keep(lambda: all(need.ready for need in needs))

    async def _stop_all(self) -> None:
        for keeper in reversed(self._keepers.values()):
            if keeper.pid is not None:
                self.say(f"{keeper.service.name}: stopping")
            await keeper.stop()

    def _note(self, *, kind: str, service: str, message: str, data: dict[str, float]) -> None:
        try:
            self._events.append(journal.append(self.home, kind=kind, service=service, message=message, data=data))
        except OSError as fault:
            self.say(f"{service}: an event could not be written down: {fault}")

    async def _end_strays(self) -> None:
        grace_s = _HURRIED_S if self._hurried else _STRAY_S
        for name in await asyncio.to_thread(adoption.end_all, grace_s=grace_s):
            self.say(f"{name}: ended, though its parent had not seen to that")

    async def _rounds(self) -> None:
        ended: set[int] = set()
        while True:
            now = adoption.zombies()
            adoption.bury(ended & now)  # what we started ourselves is waited for sooner than that
            ended = now
            try:
                logfiles.bound(self.home, limit=LOG_BYTES)
            except OSError as fault:
                self.say(f"The logs could not be put aside: {fault}")
            self._measure(await asyncio.to_thread(memory.of_trees, self._pids()))
            await asyncio.sleep(_ROUND_S)

    def _pids(self) -> list[int]:
        return [keeper.pid for keeper in self._keepers.values() if keeper.pid is not None]

    def _measure(self, sizes: dict[int, int]) -> None:
        for keeper in self._keepers.values():
            if keeper.pid in sizes:
                keeper.measured(memory_bytes=sizes[keeper.pid])

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup: it outlives the terminal
                loop.add_signal_handler(number, self._signalled)

    def _signalled(self) -> None:
        if self._stopping:  # asked twice: whoever it is will not wait
            self._hurried = True
            for keeper in self._keepers.values():
                keeper.hurry()
        self.stop()

    async def _answer(self, request: dict[str, Any]) -> Any:
        match request:
            case {"do": "status"}:
                self._measure(await asyncio.to_thread(memory.of_trees, self._pids()))
                return self.status()
            case {"do": "restart", "name": str(name)}:
                if name not in self._keepers:
                    raise errors.NotFound(
                        f"No service is called {name!r}.", hint=f"There are {', '.join(self._keepers)}."
                    )
                return await self._keepers[name].restart(seconds=60)
            case {"do": "stop"}:
                return self.stop()
        raise errors.Invalid(
            "The supervisor does not know this request.", hint="Is it of another version? Start it anew."
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
            "uptime_s": round(time.time() - self._began, 1),
            "services": [
                {
                    "name": keeper.service.name,
                    "state": keeper.state,
                    "healthy": keeper.ready,
                    "pid": keeper.pid,
                    "uptime_s": round(now - keeper.healthy_since, 1) if keeper.healthy_since else None,
                    "response_ms": round(keeper.response_s * 1000, 2) if keeper.response_s is not None else None,
                    "memory_bytes": keeper.memory_bytes,
                    "restarts": keeper.restarts,
                    "fault": keeper.fault,
                    "log": str(logfiles.path(self.home, keeper.service.name)) if keeper.service.command else None,
                }
                for keeper in self._keepers.values()
            ],
            "events": [asdict(entry) for entry in self._events],
        }
