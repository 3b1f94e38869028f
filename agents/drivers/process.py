"""Runs a driver's process: starts it under a shim, streams its output, enforces its limits, and cleans up."""

from __future__ import annotations

import errno
import math
import os
import re
import selectors
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from agents.drivers import cgroups, reaper, sandbox
from agents.drivers.base import Brief, Evidence, Json, Limits, Reporter, Stop, StopReason, Stream
from agents.drivers.exchange import Exchange, progress_of
from agents.drivers.quota import UNMEASURABLE, Quota
from agents.drivers.resume import ResumeFile
from agents.drivers.shim import SETTLE_S, Shim
from fleet import humanise
from fleet.observability.redactor import Redactor

# Bytes per read. With what the redactor held back or lengthened, a piece stays below the 64 KiB of Reporter.output.
CHUNK = 32 * 1024
# Start errors caused by the command, its environment or its folder. Others (EAGAIN, ENOMEM …) are temporary.
_PERMANENT = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.E2BIG, errno.EINVAL),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR),
}
LEASE_SETTLE_S = 0.25  # after the end of the lease, until the shim counts as halted
LAST_BYTES = 1024 * 1024  # read from a stream after the end; a pipe holds less, unless a surviving process writes on


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a process tree ended. `stage` is the step at which its start failed: shim, start, sandbox, cwd, program or
    interpreter."""

    finished: bool = False
    code: int = 0  # exit code; -N for signal N
    stage: str = ""
    errno: int = 0
    survivors: int = 0  # processes that could not be killed
    why: str = ""  # for stage "sandbox": why there is no sandbox, and what to do
    stopped: StopReason | None = None
    used: int = 0  # bytes or processes, if a limit was exceeded
    cpu_s: float | None = None
    max_rss_bytes: int | None = None
    outputs: tuple[int, ...] = ()

    @property
    def ok(self) -> bool:
        return self.finished and self.code == 0 and not self.stage and not self.survivors and not self.used


def run(
    *, argv: Sequence[str], brief: Brief, exchange: Exchange, env: Mapping[str, str], reporter: Reporter, stop: Stop
) -> Ended:
    """Run a program, with `brief.stdin` as its standard input, until all its processes have ended."""
    if stop.reason is not None:
        return Ended(stopped=stop.reason)
    if brief.confined:
        works, why = sandbox.available()
        if not works:
            return Ended(stage="sandbox", why=why)
    group = cgroups.Group(brief.limits, fleet=brief.fleet)
    try:
        return _run(argv, brief=brief, exchange=exchange, env=env, reporter=reporter, stop=stop, group=group)
    finally:
        group.end()


def _run(
    argv: Sequence[str],
    *,
    brief: Brief,
    exchange: Exchange,
    env: Mapping[str, str],
    reporter: Reporter,
    stop: Stop,
    group: cgroups.Group,
) -> Ended:
    stdin = exchange.create("stdin", brief.stdin)
    quota = Quota(group.unenforced, scratch=brief.scratch, folders=brief.writable)
    resume = ResumeFile(exchange, reporter=reporter, max_bytes=brief.limits.resume_bytes)
    try:
        shim = Shim(
            argv,
            env=env,
            markers={name: env[name] for name in reaper.NAMES if name in env},
            cwd=brief.cwd or brief.scratch,
            scratch=brief.scratch,
            limits=group.unenforced,
            lease_end=stop.lease_end,
            view=view(brief) if brief.confined else None,
            outputs=brief.outputs,
            outbox=brief.outbox,
            stdin=stdin,
            cgroup=group.descriptor,
        )
    except sandbox.Refused as refused:
        return Ended(stage="sandbox", why=str(refused))
    except ValueError:  # a NUL, which no argument or variable can hold
        return Ended(stage="program", errno=errno.EINVAL)
    except OSError as fault:
        return Ended(stage="program", errno=fault.errno or errno.EIO)
    finally:
        os.close(stdin)
    quota.shim = shim.pid
    watchdog = _Watchdog(brief.limits, stop, quota)
    stop.follow(shim.renew)
    try:
        with suppress(psutil.Error):
            reporter.started(pid=shim.pid, start_time=psutil.Process(shim.pid).create_time())
        _stream(
            shim,
            watchdog=watchdog,
            progress=exchange.progress,
            resume=resume,
            reporter=reporter,
            redactor=brief.redactor(),
        )
    finally:  # even if the reporter raises
        stop.follow(None)
        status = shim.close(timeout_s=watchdog.close_timeout_s)
        if status is None:
            reaper.reap(brief.marker)
        group.end()
    resume.check_at_end()
    if status is None:
        if brief.confined and shim.process.returncode == 1 and not watchdog.stopped:
            return Ended(stage="sandbox", why="bubblewrap failed; its message is at the end of the output.")
        return Ended(
            code=shim.process.returncode,
            stage="" if watchdog.stopped else "shim",
            stopped=watchdog.stopped,
            used=quota.used,
            cpu_s=group.cpu_s,
        )
    if status["ended"] and status["code"] == -signal.SIGKILL and group.exceeded_bytes:
        return Ended(
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
    return Ended(
        finished=status["ended"],
        code=status["code"],
        stage=status["stage"] if status["ended"] or stopped else "shim",
        errno=status["errno"],
        survivors=0 if group.ended else status["left"],
        stopped=None if status["ended"] else stopped,
        used=quota.used,
        cpu_s=status["cpu_s"] if group.cpu_s is None else group.cpu_s,
        max_rss_bytes=status["max_rss_bytes"],
        outputs=tuple(status["outputs"]),
    )


def view(brief: Brief) -> sandbox.View:
    """The part of the host that the brief makes visible in the sandbox."""
    return sandbox.View(
        scratch=brief.scratch,
        writable=brief.writable,
        readable=brief.readable,
        hidden=brief.hidden,
        network=brief.network,
        tmp_bytes=brief.limits.tmp_bytes,
    )


class _Watchdog:
    """Decides when an attempt must be stopped, and when to give up waiting for its shim."""

    def __init__(self, limits: Limits, stop: Stop, quota: Quota) -> None:
        self._limits = limits
        self._stop = stop
        self._quota = quota
        self._started_at = self._active_at = time.monotonic()
        self._give_up_at = math.inf
        self.stopped: StopReason | None = None

    def fileno(self) -> int:
        return self._stop.fileno()

    def note_activity(self) -> None:
        """Restart the silence limit."""
        self._active_at = time.monotonic()

    def stop_due(self) -> bool:
        """Check all limits. Returns True once, when the attempt must be stopped, with the reason in `stopped`."""
        if self.stopped is not None:
            return False
        now = time.monotonic()
        if self._stop.reason is not None:
            self.stopped = self._stop.reason
        elif self._limits.wall_s is not None and now - self._started_at >= self._limits.wall_s:
            self.stopped = StopReason.TIMEOUT
        elif self._limits.silence_s is not None and now - self._active_at >= self._limits.silence_s:
            self.stopped = StopReason.SILENCE
        elif exceeded := self._quota.check():
            self.stopped = exceeded
        else:
            return False
        # A running shim kills everything by the end of the lease. If the shim is halted, this process does it.
        lease_over_at = max(now, self._stop.lease_end) + LEASE_SETTLE_S
        self._give_up_at = min(now + self._limits.grace_s + SETTLE_S, lease_over_at)
        return True

    @property
    def given_up(self) -> bool:
        return time.monotonic() >= self._give_up_at

    @property
    def close_timeout_s(self) -> float:
        """How long the shim may still take to end after its output is no longer read."""
        if self.stopped is None:
            return self._limits.grace_s + SETTLE_S
        return max(0.0, self._give_up_at - time.monotonic())

    @property
    def due_at(self) -> float:
        """When the next limit has to be checked, on the monotonic clock."""
        if self.stopped is not None:
            return self._give_up_at
        ends = [self._quota.next_at]
        ends += [] if self._limits.wall_s is None else [self._started_at + self._limits.wall_s]
        ends += [] if self._limits.silence_s is None else [self._active_at + self._limits.silence_s]
        return min(ends)


def _stream(
    shim: Shim, *, watchdog: _Watchdog, progress: int, resume: ResumeFile, reporter: Reporter, redactor: Redactor
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
            if shim.status in ready:  # it reports when it ends; or it was killed
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
        if report := progress_of(redactor.redact(os.read(progress, CHUNK))):
            reporter.progress(fraction=report[0], note=report[1])


_PATHS = re.compile(r"(?<![\w.~:/-])/[\w./+@~-]*[\w/+@~-]")
_REFUSALS = re.compile(
    r"No such file|not found|not exist|cannot open|can't (open|cd)|cannot access|ENOENT|Read-only file", re.I
)


def sandbox_hint(brief: Brief, text: str) -> str:
    """Explain an error about a path that the sandbox hides or makes read-only; "" if the text contains none.

    It does not reveal whether anything exists at the path.
    """
    if not brief.confined or not _REFUSALS.search(text):
        return ""
    visible = view(brief)
    for path in map(Path, _PATHS.findall(text)):
        if not visible.shows(path):
            return (
                f" The sandbox hides {path}. If the work needs it, list it under `readable` in the plan or the agent"
                " type, or start the mission in that folder (docs/security.md)."
            )
    if "Read-only file" in text:
        return (
            " In the sandbox, work can write only to its scratch folder, /tmp and the mission's folder, and never to the"
            " fleet's own code (docs/security.md)."
        )
    return ""


def _report_leftovers(count: int, reporter: Reporter) -> None:
    """Report in the output and as the last note how many processes the work left running."""
    if count:
        subject, verb = (f"{count} process", "was") if count == 1 else (f"{count} processes", "were")
        note = f"{subject} {verb} still running and {verb} ended."
        reporter.output(stream="fleet", data=f"\n{note}\n".encode())
        reporter.progress(fraction=None, note=note)


def explain(ended: Ended, *, program: str, cwd: Path, limits: Limits) -> str:
    """Explain in a sentence or two what went wrong and, if known, what to do next."""
    match ended.stopped:
        case StopReason.TIMEOUT if (
            limits.longest_s is not None and limits.wall_s == limits.longest_s != limits.timeout_s
        ):
            return (
                f"It ran longer than {humanise.duration(limits.longest_s)}, the longest that its agent type allows, "
                "and was stopped. Make it faster, or raise the type's limit in the admin (Agent types)."
            )
        case StopReason.TIMEOUT:
            limit = humanise.duration(limits.timeout_s) if limits.timeout_s is not None else "none"
            return f"It ran longer than its timeout of {limit} and was stopped. Raise `timeout`, or make it faster."
        case StopReason.SILENCE:
            limit = humanise.duration(limits.silence_s) if limits.silence_s is not None else "none"
            return f"It printed nothing for {limit} (`silence`) and was stopped. Print progress more often, or raise the limit."
        case StopReason.MEMORY if limits.memory_bytes is not None:
            return (
                f"It was stopped: it used {_mb(ended.used)} of memory; its limit is {_mb(limits.memory_bytes)}. "
                "Use less memory, or raise the memory limit of its agent type in the admin."
            )
        case StopReason.PROCESSES:
            return (
                f"It was stopped: it had {ended.used:,} processes; its limit is {limits.processes:,}. "
                "Start fewer at once."
            )
        case StopReason.DISK_FULL:
            return (
                f"It was stopped, because it wrote to a disk with only {_mb(ended.used)} left. "
                "Free space on its host, or write less."
            )
        case StopReason.DISK | None if ended.used >= UNMEASURABLE:
            return (
                f"{'It' if ended.code == 0 and ended.finished else 'It was stopped: it'} nested folders so deep in its "
                "scratch folder, or made them inaccessible so often, that their size cannot be measured. Keep paths below "
                "4,096 bytes, and folders accessible to their owner."
            )
        case StopReason.DISK | None if ended.used and limits.disk_bytes is not None:
            return (
                f"{'It' if ended.code == 0 and ended.finished else 'It was stopped: it'} wrote {_mb(ended.used)} to its "
                f"folder; its limit is {_mb(limits.disk_bytes)}. "
                "Write less, or raise the disk limit of its agent type in the admin."
            )
        case None if limits.disk_bytes is not None and ended.code in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ):
            return (
                f"It was stopped: it wrote a file larger than its limit of {_mb(limits.disk_bytes)}. "
                "Write less, or raise the disk limit of its agent type in the admin."
            )
        case StopReason():
            return f"It was stopped: {ended.stopped.replace('_', ' ')}."
    reason = os.strerror(ended.errno) if ended.errno else "no reason given"
    match ended.stage, ended.errno:
        case "shim", _:
            return "The shim, which supervises the work, was killed, and the work with it."
        case "cwd", _:
            return f"The folder {str(cwd)!r} cannot be entered ({reason}). Check `cwd`."
        case "sandbox", _:
            return f"The sandbox could not be set up, so nothing was run. {ended.why}"
        case "program", errno.ENOENT:
            return f"The program {program!r} was not found on this host. Install it, or correct the command."
        case "interpreter", _:
            return (
                f"The program {program!r} names an interpreter in its first line that was not found on this host. "
                "Install it, or correct the line."
            )
        case "program", errno.EACCES:
            return f"The program {program!r} is not executable. Make it so (chmod +x), or name its interpreter."
        case "program", errno.E2BIG:
            return "The command and its environment are too long for the system. Pass large texts in files."
        case "program", errno.EINVAL:
            return "The command or its environment contains a NUL or an unpaired surrogate. Remove it."
        case (("program" | "start"), _):
            return f"The program {program!r} could not be started ({reason})."
    if ended.survivors:
        return f"It ended, but {ended.survivors} of its processes could not be killed (another user's?). Kill them on its host."
    if ended.code < 0:
        return f"It was killed by signal {-ended.code} ({_name(-ended.code)})."
    return f"It ended with exit code {ended.code}."


def _mb(size: int) -> str:
    """Megabytes, rounded up, so that a value above a limit never reads as the limit itself."""
    return f"{math.ceil(size / 1_000_000):,} MB"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return "unnamed"


def evidence(
    ended: Ended, *, result: Json = None, added: tuple[Json, ...] = (), error: str = "", permanent: bool = False
) -> Evidence:
    """Build the evidence of an ended process. With an `error` it does not report success.

    A program or folder that is missing or unusable, and a command that is too long, are permanent faults.
    """
    return Evidence(
        finished=ended.finished,
        ok=ended.ok and not error,
        exit_code=ended.code if ended.finished and ended.code >= 0 and not ended.stage else None,
        signal=-ended.code if ended.code < 0 else None,
        result=result,
        added=added,
        error=error,
        permanent=permanent or (ended.stage in ("program", "interpreter", "cwd") and ended.errno in _PERMANENT),
        stopped=ended.stopped,
        cpu_s=ended.cpu_s,
        max_rss_bytes=ended.max_rss_bytes,
        outputs=ended.outputs,
    )
