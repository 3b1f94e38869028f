"""The life of one service: wait for what it needs, start it, watch it, start it again when it fails, stop it.

waiting ─▶ starting ─▶ healthy ⇄ unhealthy
   ▲           │          │          │
   │           ▼          ▼          ▼
   └─────── pausing (after a failure, longer each time) ──▶ failed (too often; `restart` tries again)
from each: ─▶ stopping ─▶ stopped          a step: starting ─▶ done
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable
from typing import Literal, Protocol

from fleet import errors, humanise
from fleet.config.home import Home
from fleet.services import logfiles
from fleet.services.providers import identity
from fleet.services.supervision import children
from fleet.services.supervision.changes import Changes
from fleet.services.supervision.service import Service
from fleet.services.supervision.thresholds import Crossing, Thresholds

State = Literal["waiting", "starting", "healthy", "unhealthy", "pausing", "failed", "stopping", "stopped", "done"]
_PROBE_S = 10  # an answer that takes longer is none
_PROGRESS_S = 1  # between two reports of a step
# A first start that fails for one of these would fail again: somebody has to make room, or to give what is missing.
_VAIN = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)))


class Note(Protocol):
    """Writes down what happened to a service."""

    def __call__(self, *, kind: str, service: str, message: str, data: dict[str, float]) -> None: ...


class ServiceRunner:
    def __init__(
        self,
        service: Service,
        *,
        home: Home,
        changes: Changes,
        register: children.Register,
        say: Callable[[str], None],
        note: Note,
    ) -> None:
        self.service = service
        self.state: State = "waiting"
        self.pid: int | None = None
        self.restarts = 0
        self.response_s: float | None = None
        self.memory_bytes: int | None = None
        self.fault = ""  # what is wrong now, in one sentence
        self.healthy_since: float | None = None  # by the monotonic clock
        self._home = home
        self._changes = changes
        self._register = register
        self._say = say
        self._write_down = note
        self._thresholds = Thresholds(service.name, service.limits)
        self._failures = 0  # in a row
        self._came_up = False  # ever
        self._stop_wished = False
        self._restart_wished = False
        self._hurried = False

    @property
    def ready(self) -> bool:
        return self.state in {"healthy", "done"}

    async def keep(self, needs_ready: Callable[[], bool]) -> None:
        """Keep the service until `stop`."""
        while not self._stop_wished:
            self._become("waiting")
            await self._changes.until(lambda: needs_ready() or self._stop_wished)
            self._restart_wished = False
            if not self._wished():
                await self._one_life()
        self._become("stopped")

    async def stop(self) -> None:
        """Stop it and wait until it is gone."""
        self._stop_wished = True
        self._changes.announce()
        await self._changes.until(lambda: self.state == "stopped")

    async def restart(self, *, seconds: float) -> None:
        """Stop and start it, and wait until it answers; Unavailable, with why, when it does not."""
        if self.service.command is None:
            raise errors.Conflict(
                f"{self.service.name} is not ours to restart: it was named by DATABASE_URL and REDIS_URL."
            )
        self._restart_wished = True
        self._failures = 0
        self._changes.announce()
        await self._changes.until(lambda: not self._restart_wished, seconds=seconds)
        await self._changes.until(lambda: self.ready or self.state == "failed", seconds=seconds)
        if not self.ready:
            raise errors.Unavailable(f"{self.service.name} did not come back: {self.fault or self.state}.")

    def measured(self, *, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self._raise(self._thresholds.memory(memory_bytes))

    def hurry(self) -> None:
        """Wait no longer for a process that is being stopped."""
        self._hurried = True
        self._changes.announce()

    async def _one_life(self) -> None:
        final = self.service.once
        try:
            fault = await (self._live() if self.service.command else self._watch_only())
        except errors.Invalid as refusal:  # the same again would be refused again
            fault, final = str(refusal), True
        except errors.FleetError as refusal:
            fault = str(refusal)
        except Exception as surprise:  # whatever it is: a keeper that dies of it would never stop its process
            fault = f"{type(surprise).__name__}: {surprise}"
        if self._wished():
            return
        if not fault:
            self._become("done")
            await self._changes.until(self._wished)
        elif final or self._in_vain(fault) or (pause := self.service.backoff.pause(self._failures + 1)) is None:
            await self._give_up(fault)
        else:
            await self._pause(fault, pause)

    def _in_vain(self, fault: str) -> bool:
        return not self._came_up and any(cause in fault for cause in _VAIN)

    async def _live(self) -> str:
        """From a start to the process's end; why it failed, or "" where a step is done."""
        assert self.service.command is not None
        self._become("starting")
        self._say(f"{self.service.name}: {'working' if self.service.once else 'starting'}")
        command = await asyncio.to_thread(self.service.command)
        if self._wished():
            return ""
        with logfiles.open_for_append(self._home, self.service.name) as log:
            process = await asyncio.create_subprocess_exec(
                *identity.launched(command.argv, identity=command.identity, on_orphan=self.service.stop_signal),
                cwd=command.cwd,
                env=command.environment(os.environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a terminal's Ctrl-C reaches the supervisor only, which stops in order
            )
        self.pid = process.pid
        self._register.add(
            name=self.service.name,
            pid=process.pid,
            stop_signal=self.service.stop_signal,
            grace_s=self.service.grace_s,
        )
        ended = asyncio.create_task(process.wait())
        ended.add_done_callback(lambda _: self._changes.announce())
        watch = asyncio.create_task(self._watch())
        watch.add_done_callback(lambda _: self._changes.announce())
        try:
            await self._changes.until(lambda: ended.done() or watch.done() or self._wished())
            if ended.done():
                return self._verdict(ended.result())
            beyond_hope = watch.done()
            watch.cancel()  # an answer to a last probe would make it healthy again
            self._become("stopping")
            await self._end(process, ended)
            return watch.result() if beyond_hope else ""
        finally:
            watch.cancel()
            children.end_session(process.pid)
            self._register.remove(self.service.name)
            self.pid = self.response_s = self.memory_bytes = None

    async def _end(self, process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
        await asyncio.to_thread(children.wake, process.pid)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(self.service.stop_signal)
        await self._changes.until(lambda: ended.done() or self._hurried, seconds=self.service.grace_s)
        if not ended.done():
            self._say(f"{self.service.name}: does not stop; killing it")
            process.kill()
            await ended

    def _verdict(self, code: int) -> str:
        if self.service.once and code == 0:
            return ""
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        said = [line for line in logfiles.tail(self._home, self.service.name, lines=20) if line.strip()]
        return f"it {how}" + (f"; its last words: {said[-1].strip()[:300]}" if said and code >= 0 else "")

    async def _watch(self) -> str:
        """Probe until the process is beyond hope; why it is."""
        if self.service.once:
            await self._report_progress()
        good = time.monotonic()
        pause = 0.02
        told = False
        while True:
            fault = await self._probe()
            now = time.monotonic()
            if fault and not (told or self.service.command) and self.state == "starting":
                told = True  # of somebody else's server at once: it may be that nobody is going to start it
                self._say(
                    f"{self.service.name}: {fault.rstrip('.')}; asking again for {humanise.duration(self.service.ready_s)}"
                )
            if not fault:
                good = now
            elif self.state == "starting" and now - good > self.service.ready_s:
                return f"it did not answer within {humanise.duration(self.service.ready_s)}: {fault}"
            elif self.service.command and self.state != "starting" and now - good > self.service.silent_s:
                return f"it has not answered for {humanise.duration(self.service.silent_s)}: {fault}"
            pause = min(pause * 1.5, 0.5) if fault else self.service.probe_every_s
            await asyncio.sleep(pause)

    async def _report_progress(self) -> None:
        """Say each second what a step has printed last, where that is new."""
        reported = await self._last_line()
        while True:
            await asyncio.sleep(_PROGRESS_S)
            if (line := await self._last_line()) != reported:
                reported = line
                self._say(f"{self.service.name}: {line}")

    async def _last_line(self) -> str:
        printed = await asyncio.to_thread(logfiles.tail, self._home, self.service.name, lines=1)
        return printed[-1].strip() if printed else ""

    async def _watch_only(self) -> str:
        """Somebody else's server: nothing to start or to stop, and once it has answered its silence is waited out."""
        self._become("starting")
        self._say(f"{self.service.name}: asking")
        asked = asyncio.create_task(self._watch())
        asked.add_done_callback(lambda _: self._changes.announce())
        try:
            await self._changes.until(lambda: asked.done() or self._wished())
            return asked.result() if asked.done() else ""
        finally:
            asked.cancel()

    async def _probe(self) -> str:
        began = time.monotonic()
        try:
            async with asyncio.timeout(_PROBE_S):
                if self.service.probe is not None:
                    await self.service.probe()
        except TimeoutError:
            fault = f"no answer within {humanise.duration(_PROBE_S)}"
        except errors.Unavailable as silence:
            fault = str(silence)
        else:
            self.response_s = time.monotonic() - began if self.service.probe is not None else None
            self._healthy()
            if self.response_s is not None:
                self._raise(self._thresholds.response(self.response_s))
            return ""
        self.fault = fault
        self.response_s = None
        if self.state == "healthy":
            self._become("unhealthy")
            self._say(f"{self.service.name}: does not answer ({fault})")
            self._note("service.silent", f"{self.service.name} does not answer: {fault}", {})
        return fault

    def _healthy(self) -> None:
        if self.state == "stopping":  # the answer was under way when the stop began
            return
        if self.healthy_since and time.monotonic() - self.healthy_since > self.service.backoff.proven_s:
            self._failures = 0
        if self.state == "unhealthy":
            self._note("service.normal", f"{self.service.name} answers again.", {})
        if self.state != "healthy":
            self.fault = ""
            self._came_up = True
            self.healthy_since = self.healthy_since or time.monotonic()
            self._become("healthy")
            self._say(f"{self.service.name}: healthy")

    async def _pause(self, fault: str, pause: float) -> None:
        self.fault = fault
        self._failures += 1
        self._become("pausing")
        self._say(f"{self.service.name}: {fault}; starting it again in {humanise.duration(pause)}")
        await self._changes.until(self._wished, seconds=pause)
        self.restarts += 1
        self._note("service.restarted", f"{self.service.name} is started again: {fault}", {"restarts": self.restarts})
        self._raise(self._thresholds.restarts(self.restarts))

    async def _give_up(self, fault: str) -> None:
        self.fault = fault
        self._become("failed")
        self._say(f"{self.service.name}: failed: {fault}")
        self._note("service.failed", f"{self.service.name} failed: {fault}", {"restarts": self.restarts})
        await self._changes.until(self._wished)

    def _wished(self) -> bool:
        return self._stop_wished or self._restart_wished

    def _become(self, state: State) -> None:
        self.state = state
        if state not in {"healthy", "unhealthy"}:
            self.healthy_since = None
        self._changes.announce()

    def _raise(self, crossing: Crossing | None) -> None:
        if crossing is not None:
            self._say(f"{self.service.name}: {crossing.message}")
            self._note(crossing.kind, crossing.message, {"value": crossing.value, "limit": crossing.limit})

    def _note(self, kind: str, message: str, data: dict[str, float]) -> None:
        self._write_down(kind=kind, service=self.service.name, message=message, data=data)
