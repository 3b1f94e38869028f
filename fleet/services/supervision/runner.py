"""Runs one service: waits for its needs, starts it, watches it, restarts it after a failure, and stops it.

waiting ─▶ starting ─▶ healthy ⇄ unhealthy
   ▲           │          │          │
   │           ▼          ▼          ▼
   └─────── pausing (after each failure, longer each time) ──▶ failed (after too many; `restart` tries again)
from any state: ─▶ stopping ─▶ stopped          a step: starting ─▶ done
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
from fleet.services.supervision import children, process_trees
from fleet.services.supervision.changes import ChangeNotifier
from fleet.services.supervision.service import Overloaded, Service
from fleet.services.supervision.thresholds import Crossing, Thresholds

State = Literal["waiting", "starting", "healthy", "unhealthy", "pausing", "failed", "stopping", "stopped", "done"]
_PROBE_S = 10  # the timeout of a probe
_PROGRESS_S = 1  # between two reports of a step's progress
# Retrying a first start that failed for one of these reasons is pointless: it needs disk space, permissions or a program.
_PERMANENT = (
    *map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)),
    "was not found on this host",  # the container engine; see providers/engine.py
)


class Recorder(Protocol):
    """Records an event of a service."""

    def __call__(self, *, kind: str, service: str, message: str, data: dict[str, float]) -> None: ...


class ServiceRunner:
    """Runs one service until it is stopped; its attributes are what the supervisor's status shows."""

    def __init__(
        self,
        service: Service,
        *,
        home: Home,
        changes: ChangeNotifier,
        registry: children.ChildRegistry,
        say: Callable[[str], None],
        record: Recorder,
    ) -> None:
        self.service = service
        self.state: State = "waiting"
        self.pid: int | None = None
        self.measured_pid: int | None = None  # the memory of this process and its descendants is measured
        self.restarts = 0
        self.response_s: float | None = None
        self.memory_bytes: int | None = None
        self.error = ""  # what is wrong now, in one sentence
        self.healthy_since: float | None = None  # on the monotonic clock
        self._home = home
        self._changes = changes
        self._registry = registry
        self._output = say
        self._record_event = record
        self._thresholds = Thresholds(service.limits)
        self._failures = 0  # in a row
        self._was_healthy = False  # at any time
        self._stop_requested = False
        self._restart_requested = False
        self._overloaded = False  # the last probe found a server without a free connection
        self._grace_skipped = False

    @property
    def ready(self) -> bool:
        return self.state in {"healthy", "done"}

    async def run(self, needs_ready: Callable[[], bool]) -> None:
        """Run the service until `stop`."""
        while not self._stop_requested:
            self._set_state("waiting")
            await self._changes.wait_for(lambda: needs_ready() or self._stop_requested)
            self._restart_requested = False
            if not self._interrupted():
                await self._run_once()
        self._set_state("stopped")

    async def stop(self) -> None:
        """Stop the service and wait until it has stopped."""
        self._stop_requested = True
        self._changes.notify_all()
        await self._changes.wait_for(lambda: self.state == "stopped")

    async def restart(self, *, seconds: float) -> None:
        """Restart the service and wait until it is ready; raises Unavailable if it does not become ready."""
        if self.service.command is None:
            raise errors.Conflict(
                f"{self.service.name} is an external server (DATABASE_URL and REDIS_URL are set): "
                "the fleet cannot restart it.",
                hint="Restart it where it runs.",
            )
        self._restart_requested = True
        self._failures = 0
        self._changes.notify_all()
        await self._changes.wait_for(lambda: not self._restart_requested, seconds=seconds)
        await self._changes.wait_for(lambda: self.ready or self.state == "failed", seconds=seconds)
        if not self.ready:
            raise errors.Unavailable(
                f"{self.service.name} is not healthy after the restart: {self.error or self.state}."
            )

    def record_memory(self, size: int) -> None:
        self.memory_bytes = size
        self._report(self._thresholds.memory(size))

    def skip_grace(self) -> None:
        """Kill the process now if it is being stopped."""
        self._grace_skipped = True
        self._changes.notify_all()

    async def _run_once(self) -> None:
        """Start and watch the service until it ends, fails or is interrupted, and handle a failure."""
        final = self.service.once
        try:
            error = await (self._run_process() if self.service.command else self._watch_external())
        except errors.Invalid as refusal:  # a retry would be refused, too
            error, final = str(refusal), True
        except errors.FleetError as refusal:
            error = str(refusal)
        except Exception as exc:  # any: a runner that ended here would never stop its process
            error = f"{type(exc).__name__}: {exc}"
        if self._interrupted():
            return
        if not error:
            self._set_state("done")
            await self._changes.wait_for(self._interrupted)
        elif final or self._is_permanent(error) or (pause := self.service.backoff.pause(self._failures + 1)) is None:
            await self._give_up(error)
        else:
            await self._pause(error, pause)

    def _is_permanent(self, error: str) -> bool:
        return not self._was_healthy and any(cause in error for cause in _PERMANENT)

    async def _run_process(self) -> str:
        """Start the process and watch it until its end; returns why it failed, or "" if a step is done."""
        assert self.service.command is not None
        self._set_state("starting")
        self._say("running" if self.service.once else "starting")
        command = await asyncio.to_thread(self.service.command)
        if self._interrupted():
            return ""
        with logfiles.open_for_append(self._home, self.service.name) as log:
            process = await asyncio.create_subprocess_exec(
                *identity.launch_command(command.argv, identity=command.identity, on_orphan=self.service.stop_signal),
                cwd=command.cwd,
                env=command.environment(os.environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=command.inherited,
                start_new_session=True,  # Ctrl-C must reach only the supervisor, which stops its services in order
            )
        self.pid = self.measured_pid = process.pid
        self._registry.add(
            name=self.service.name,
            pid=process.pid,
            stop_signal=self.service.stop_signal,
            grace_s=self.service.grace_s,
        )
        ended = asyncio.create_task(process.wait())
        ended.add_done_callback(lambda _: self._changes.notify_all())
        watch = asyncio.create_task(self._watch())
        watch.add_done_callback(lambda _: self._changes.notify_all())
        try:
            await self._changes.wait_for(lambda: ended.done() or watch.done() or self._interrupted())
            if ended.done():
                return self._exit_error(ended.result())
            unresponsive = watch.done()
            watch.cancel()  # the answer to a last probe would set the state to healthy
            self._set_state("stopping")
            await self._end(process, ended)
            return watch.result() if unresponsive else ""
        finally:
            watch.cancel()
            process_trees.kill_session(process.pid)
            await self._clean_up()
            self._registry.remove(self.service.name)
            self.pid = self.measured_pid = self.response_s = self.memory_bytes = None

    async def _end(self, process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
        await asyncio.to_thread(process_trees.wake, process.pid)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(self.service.stop_signal)
        await self._changes.wait_for(lambda: ended.done() or self._grace_skipped, seconds=self.service.grace_s)
        if not ended.done():
            self._say("does not stop; killing it")
            process.kill()
            await ended

    async def _clean_up(self) -> None:
        if self.service.clean_up is None:
            return
        try:
            await asyncio.to_thread(self.service.clean_up)
        except errors.FleetError as error:
            self._say(f"could not be cleaned up: {error}")

    def _exit_error(self, code: int) -> str:
        if self.service.once and code == 0:
            return ""
        if code < 0:
            return f"it was killed by {signal.Signals(-code).name}"
        lines = [line for line in logfiles.tail(self._home, self.service.name, lines=20) if line.strip()]
        return f"it ended with exit code {code}" + (f"; its last output: {lines[-1].strip()[:300]}" if lines else "")

    async def _watch(self) -> str:
        """Probe the service until it has not answered for too long, and return that as the error."""
        if self.service.once:
            await self._report_progress()
        heard_at = time.monotonic()
        pause = 0.02
        reported = answered = False
        while True:
            error = await self._probe()
            now = time.monotonic()
            if error and not (reported or self.service.command) and self.state == "starting":
                reported = True  # at once for an external server: nothing here will start it
                self._say(f"{error.rstrip('.')}; retrying for {humanise.duration(self.service.ready_s)}")
            if not error or (self._overloaded and self._was_healthy):
                heard_at = now
            if not error:
                if not answered and self.service.main_pid is not None:
                    self.measured_pid = await asyncio.to_thread(self.service.main_pid)
                answered = True
            elif self.state == "starting" and now - heard_at > self.service.ready_s:
                return f"it did not answer within {humanise.duration(self.service.ready_s)}: {error}"
            elif self.service.command and self.state != "starting" and now - heard_at > self.service.silent_s:
                return f"it has not answered for {humanise.duration(self.service.silent_s)}: {error}"
            pause = min(pause * 1.5, 0.5) if error else self.service.probe_every_s
            await asyncio.sleep(pause)

    async def _report_progress(self) -> None:
        """Show the last line of a step's output whenever it changes, until cancelled."""
        reported = await self._last_line()
        while True:
            await asyncio.sleep(_PROGRESS_S)
            if (line := await self._last_line()) != reported:
                reported = line
                self._say(line)

    async def _last_line(self) -> str:
        lines = await asyncio.to_thread(logfiles.tail, self._home, self.service.name, lines=1)
        return lines[-1].strip() if lines else ""

    async def _watch_external(self) -> str:
        """Watch an external server. Once it has answered, later silence is reported but never counts as a failure."""
        self._set_state("starting")
        self._say("connecting")
        watch = asyncio.create_task(self._watch())
        watch.add_done_callback(lambda _: self._changes.notify_all())
        try:
            await self._changes.wait_for(lambda: watch.done() or self._interrupted())
            return watch.result() if watch.done() else ""
        finally:
            watch.cancel()

    async def _probe(self) -> str:
        """Probe once and record the result; returns the error, or "" if the service answered."""
        started_at = time.monotonic()
        self._overloaded = False
        try:
            async with asyncio.timeout(_PROBE_S):
                if self.service.probe is not None:
                    await self.service.probe()
        except TimeoutError:
            error = f"no answer within {humanise.duration(_PROBE_S)}"
        except errors.Unavailable as exc:
            error = str(exc)
            self._overloaded = isinstance(exc, Overloaded)
        else:
            self.response_s = time.monotonic() - started_at if self.service.probe is not None else None
            self._set_healthy()
            if self.response_s is not None:
                self._report(self._thresholds.response(self.response_s))
            return ""
        self.error = error
        self.response_s = None
        if self.state == "healthy":
            self._set_state("unhealthy")
            self._say(f"does not answer ({error})")
            self._record("service.silent", f"does not answer: {error}", {})
        return error

    def _set_healthy(self) -> None:
        if self.state == "stopping":  # the probe was under way when the stop began
            return
        if self.healthy_since and time.monotonic() - self.healthy_since > self.service.backoff.reset_s:
            self._failures = 0
        if self.state == "unhealthy":
            self._record("service.normal", "answers again.", {})
        if self.state != "healthy":
            self.error = ""
            self._was_healthy = True
            self.healthy_since = self.healthy_since or time.monotonic()
            self._set_state("healthy")
            self._say("healthy")

    async def _pause(self, error: str, pause: float) -> None:
        self.error = error
        self._failures += 1
        self._set_state("pausing")
        self._say(f"{error}; restarting it in {humanise.duration(pause)}")
        await self._changes.wait_for(self._interrupted, seconds=pause)
        self.restarts += 1
        self._record("service.restarted", f"is being restarted: {error}", {"restarts": self.restarts})
        self._report(self._thresholds.restarts(self.restarts))

    async def _give_up(self, error: str) -> None:
        self.error = error
        self._set_state("failed")
        self._say(f"failed: {error}")
        self._record("service.failed", f"failed: {error}", {"restarts": self.restarts})
        await self._changes.wait_for(self._interrupted)

    def _interrupted(self) -> bool:
        return self._stop_requested or self._restart_requested

    def _set_state(self, state: State) -> None:
        self.state = state
        if state not in {"healthy", "unhealthy"}:
            self.healthy_since = None
        self._changes.notify_all()

    def _report(self, crossing: Crossing | None) -> None:
        if crossing is not None:
            self._say(crossing.message)
            self._record(crossing.kind, crossing.message, {"value": crossing.value, "limit": crossing.limit})

    def _say(self, text: str) -> None:
        self._output(f"{self.service.name}: {text}")

    def _record(self, kind: str, message: str, data: dict[str, float]) -> None:
        self._record_event(kind=kind, service=self.service.name, message=f"{self.service.name} {message}", data=data)
