"""Runs a driver's process: starts it under a shim, streams its output, enforces its limits, and cleans up."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from agents.confinement import cgroups, probe
from agents.confinement.attempt_limits import StopReason
from agents.confinement.host_paths import PathRefused
from agents.confinement.quota import Quota
from agents.drivers import reaper
from agents.drivers.base import AttemptBrief, Reporter, Stop, Stream
from agents.drivers.exchange import Exchange, parse_progress
from agents.drivers.outcomes import ProcessOutcome
from agents.drivers.resume import ResumeFile
from agents.drivers.shim import Shim
from agents.drivers.watchdog import Watchdog
from fleet.observability.redactor import Redactor

# Bytes per read. With what the redactor held back or lengthened, a piece stays below the 64 KiB of Reporter.output.
CHUNK = 32 * 1024
LAST_BYTES = 1024 * 1024  # read from a stream after the end; a pipe holds less, unless a surviving process writes on


def run(
    *,
    argv: Sequence[str],
    brief: AttemptBrief,
    exchange: Exchange,
    env: Mapping[str, str],
    reporter: Reporter,
    stop: Stop,
) -> ProcessOutcome:
    """Run a program, with `brief.stdin` as its standard input, until all its processes have ended."""
    if stop.reason is not None:
        return ProcessOutcome(stopped=stop.reason)
    if brief.confined and (why := probe.sandbox_problem()):
        return ProcessOutcome(stage="sandbox", why=why)
    group = cgroups.Group(brief.limits, fleet=brief.fleet)
    try:
        return _run(argv, brief=brief, exchange=exchange, env=env, reporter=reporter, stop=stop, group=group)
    finally:
        group.end()


def _run(
    argv: Sequence[str],
    *,
    brief: AttemptBrief,
    exchange: Exchange,
    env: Mapping[str, str],
    reporter: Reporter,
    stop: Stop,
    group: cgroups.Group,
) -> ProcessOutcome:
    stdin = exchange.create("stdin", brief.stdin)
    quota = Quota(group.unenforced, scratch=brief.scratch, copy=brief.copy, folders=brief.writable)
    resume = ResumeFile(exchange, reporter=reporter, max_bytes=brief.limits.resume_bytes)
    try:
        shim = Shim(
            argv,
            env=env,
            markers={name: env[name] for name in reaper.MARKERS if name in env},
            cwd=brief.cwd or brief.scratch,
            scratch=brief.scratch,
            limits=group.unenforced,
            lease_end=stop.lease_end,
            view=brief.view() if brief.confined else None,
            outputs=brief.outputs,
            outbox=brief.outbox,
            stdin=stdin,
            cgroup=group.descriptor,
        )
    except PathRefused as refused:
        return ProcessOutcome(stage="sandbox", why=str(refused))
    except ValueError:  # a NUL, which no argument or variable can contain
        return ProcessOutcome(stage="program", errno=errno.EINVAL)
    except OSError as error:
        return ProcessOutcome(stage="program", errno=error.errno or errno.EIO)
    finally:
        os.close(stdin)
    quota.shim = shim.pid
    watchdog = Watchdog(brief.limits, stop, quota)
    stop.set_listener(shim.renew)
    try:
        if shim.pid:  # 0: bubblewrap failed before it started one
            reporter.started(pid=shim.pid)
        _stream(
            shim,
            watchdog=watchdog,
            progress=exchange.progress,
            resume=resume,
            reporter=reporter,
            redactor=brief.redactor(),
        )
    finally:  # even if the reporter raises
        stop.set_listener(None)
        status = shim.close(timeout_s=watchdog.close_timeout_s)
        if status is None:
            reaper.reap(brief.marker)
        group.end()
    resume.check_at_end()
    if status is None:
        if brief.confined and shim.process.returncode == 1 and not watchdog.stopped:
            return ProcessOutcome(stage="sandbox", why="bubblewrap failed; its message is at the end of the output.")
        return ProcessOutcome(
            code=shim.process.returncode,
            stage="" if watchdog.stopped else "shim",
            stopped=watchdog.stopped,
            used=quota.used,
            cpu_s=group.cpu_s,
        )
    if status["ended"] and status["code"] == -signal.SIGKILL and group.exceeded_bytes:
        return ProcessOutcome(
            code=status["code"],
            stopped=StopReason.MEMORY,
            used=group.exceeded_bytes,
            cpu_s=group.cpu_s,
            max_rss_bytes=status["max_rss_bytes"],
        )
    if status["expired"]:
        stop.set(StopReason.LEASE_LOST)  # the shim may notice it before the engine
    if status["ended"]:
        quota.check_at_end()
        _report_leftovers(status["leftovers"], reporter)
    stopped = watchdog.stopped or (StopReason.LEASE_LOST if status["expired"] else None)
    return ProcessOutcome(
        finished=status["ended"],
        code=status["code"],
        stage=status["stage"] if status["ended"] or stopped else "shim",
        errno=status["errno"],
        survivors=0 if group.ended else status["survivors"],
        stopped=None if status["ended"] else stopped,
        used=quota.used,
        cpu_s=status["cpu_s"] if group.cpu_s is None else group.cpu_s,
        max_rss_bytes=status["max_rss_bytes"],
        outputs=tuple(status["outputs"]),
    )


def _stream(
    shim: Shim, *, watchdog: Watchdog, progress: int, resume: ResumeFile, reporter: Reporter, redactor: Redactor
) -> None:
    """Forward the output until the shim has ended, and with it every process; then forward the rest."""

    def forward(stream: Stream, data: bytes) -> None:
        if data:
            reporter.output(stream=stream, data=data)

    with selectors.DefaultSelector() as selector:
        for descriptor in (*shim.streams, shim.status, watchdog.fileno(), progress):
            selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if watchdog.stop_due():
                selector.unregister(watchdog.fileno())
                shim.stop()
            if watchdog.given_up:
                return
            wait_s = max(0.0, min(watchdog.due_at, resume.next_at) - time.monotonic())
            ready = {key.fd for key, _ in selector.select(wait_s)}
            for descriptor in ready & shim.streams.keys():
                watchdog.note_activity()
                if data := os.read(descriptor, CHUNK):
                    forward(shim.streams[descriptor], redactor.feed(shim.streams[descriptor], data))
                else:
                    selector.unregister(descriptor)
            if progress in ready:
                watchdog.note_activity()
                _report(progress, reporter, redactor)
            if resume.check():
                watchdog.note_activity()
            if shim.status in ready:  # it has reported its end, or it was killed
                break
    for descriptor, stream in shim.streams.items():
        os.set_blocking(descriptor, False)
        with suppress(BlockingIOError):
            for _ in range(LAST_BYTES // CHUNK):
                if not (data := os.read(descriptor, CHUNK)):
                    break
                forward(stream, redactor.feed(stream, data))
        forward(stream, redactor.flush(stream))
    _report(progress, reporter, redactor)


def _report(progress: int, reporter: Reporter, redactor: Redactor) -> None:
    with suppress(BlockingIOError):
        if report := parse_progress(redactor.redact(os.read(progress, CHUNK))):
            reporter.progress(fraction=report[0], note=report[1])


def _report_leftovers(count: int, reporter: Reporter) -> None:
    """Report in the output and as the last note how many processes the workload left running."""
    if count:
        subject, verb = (f"{count} process", "was") if count == 1 else (f"{count} processes", "were")
        note = f"{subject} {verb} still running and {verb} ended."
        reporter.output(stream="fleet", data=f"\n{note}\n".encode())
        reporter.progress(fraction=None, note=note)
