"""What drivers with a process share: start it under a shim, stream what it prints, keep its limits, leave nothing."""

from __future__ import annotations

import errno
import math
import os
import re
import selectors
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from agents.drivers import reaper, sandbox
from agents.drivers.base import Brief, Evidence, Json, Limits, Reporter, Stop, StopReason, Stream
from agents.drivers.exchange import Exchange, progress_of
from agents.drivers.quota import TOO_DEEP, Quota
from agents.drivers.shim import SETTLE_S, Shim
from fleet import humanise
from fleet.observability.redactor import Redactor

CHUNK = 32 * 1024  # with what the redactor held back, and has made longer, at most the 64 KiB of a Reporter
# Of a start: what is wrong with the command, its environment or its folder. Others (EAGAIN, ENOMEM …) pass.
_PERMANENT = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.E2BIG, errno.EINVAL),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR),
}
LEASE_SETTLE_S = 0.25  # past the end of the lease, until the shim is taken for halted
LAST_BYTES = 1024 * 1024  # read of a stream after its end; a pipe holds less, unless what could not be ended writes on


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a process tree ended. `stage` names where its start failed: shim, start, sandbox, cwd or program."""

    finished: bool = False
    code: int = 0  # a signal's number below zero
    stage: str = ""
    errno: int = 0
    left: int = 0  # processes that could not be ended
    why: str = ""  # where it could not be confined: what a person can do about it
    stopped: StopReason | None = None
    used: int = 0  # bytes of memory or disk, or processes, where it passed a limit
    cpu_s: float | None = None
    max_rss_bytes: int | None = None
    outputs: tuple[int, ...] = ()

    @property
    def ok(self) -> bool:
        return self.finished and self.code == 0 and not self.stage and not self.left and not self.used


def run(
    *, argv: Sequence[str], brief: Brief, exchange: Exchange, env: Mapping[str, str], reporter: Reporter, stop: Stop
) -> Ended:
    """Run a program to its end, and all that it starts. Standard input is `brief.stdin`."""
    if stop.reason is not None:
        return Ended(stopped=stop.reason)
    if brief.confined and not (sandbox_works := sandbox.available())[0]:
        return Ended(stage="sandbox", why=sandbox_works[1])
    stdin = exchange.give("stdin", brief.stdin)
    quota = Quota(brief.limits, scratch=brief.scratch, folders=brief.writable)
    try:
        shim = Shim(
            argv,
            env=env,
            named={name: env[name] for name in reaper.NAMES if name in env},
            cwd=brief.cwd or brief.scratch,
            scratch=brief.scratch,
            limits=brief.limits,
            lease_end=stop.lease_end,
            view=view(brief) if brief.confined else None,
            outputs=brief.outputs,
            outbox=brief.outbox,
            stdin=stdin,
        )
    except sandbox.Refused as refused:
        return Ended(stage="sandbox", why=str(refused))
    except ValueError:  # a NUL, which the system cannot take
        return Ended(stage="program", errno=errno.EINVAL)
    except OSError as fault:
        return Ended(stage="program", errno=fault.errno or errno.EIO)
    finally:
        os.close(stdin)
    quota.shim = shim.pid
    watch = _Watch(brief.limits, stop, quota)
    stop.follow(shim.renew)
    try:
        with suppress(psutil.Error):
            reporter.started(pid=shim.pid, start_time=psutil.Process(shim.pid).create_time())
        _stream(shim, watch=watch, progress=exchange.progress, reporter=reporter, redactor=brief.redactor())
    finally:  # also when the reporter raises
        stop.follow(None)
        status = shim.close(timeout_s=watch.patience_s)
        if status is None:
            reaper.reap(brief.marker)
    if status is None:
        if brief.confined and shim.process.returncode == 1 and not watch.stopped:
            return Ended(stage="sandbox", why="bubblewrap refused it; its words are the last of the attempt's output.")
        return Ended(
            code=shim.process.returncode, stage="" if watch.stopped else "shim", stopped=watch.stopped, used=quota.used
        )
    if status["expired"]:
        stop.set(StopReason.LEASE_LOST)  # the shim's clock may have told it before the engine's
    if status["ended"]:
        quota.left_too_much()
        _report_leftovers(status["leftovers"], reporter)
    stopped = watch.stopped or (StopReason.LEASE_LOST if status["expired"] else None)
    return Ended(
        finished=status["ended"],
        code=status["code"],
        stage=status["stage"] if status["ended"] or stopped else "shim",
        errno=status["errno"],
        left=status["left"],
        stopped=None if status["ended"] else stopped,
        used=quota.used,
        cpu_s=status["cpu_s"],
        max_rss_bytes=status["max_rss_bytes"],
        outputs=tuple(status["outputs"]),
    )


def view(brief: Brief) -> sandbox.View:
    return sandbox.View(
        scratch=brief.scratch,
        writable=brief.writable,
        readable=brief.readable,
        hidden=brief.hidden,
        network=brief.network,
        tmp_bytes=brief.limits.tmp_bytes,
    )


class _Watch:
    """The clock of one attempt: when it is to be stopped, and when the shim itself is given up."""

    def __init__(self, limits: Limits, stop: Stop, quota: Quota) -> None:
        self._limits = limits
        self._stop = stop
        self._quota = quota
        self._began = self._heard = time.monotonic()
        self._give_up_at = math.inf
        self.stopped: StopReason | None = None

    def fileno(self) -> int:
        return self._stop.fileno()

    def hear(self) -> None:
        self._heard = time.monotonic()

    def stops_now(self) -> bool:
        """Whether this is the moment to stop; true once, with the reason in `stopped`."""
        if self.stopped is not None:
            return False
        now = time.monotonic()
        if self._stop.reason is not None:
            self.stopped = self._stop.reason
        elif self._limits.wall_s is not None and now - self._began >= self._limits.wall_s:
            self.stopped = StopReason.TIMEOUT
        elif self._limits.silence_s is not None and now - self._heard >= self._limits.silence_s:
            self.stopped = StopReason.SILENCE
        elif passed := self._quota.look():
            self.stopped = passed
        else:
            return False
        # A shim that lives kills everything by the end of the lease; for one that is halted it is done from here.
        lease_over_at = max(now, self._stop.lease_end) + LEASE_SETTLE_S
        self._give_up_at = min(now + self._limits.grace_s + SETTLE_S, lease_over_at)
        return True

    @property
    def given_up(self) -> bool:
        return time.monotonic() >= self._give_up_at

    @property
    def patience_s(self) -> float:
        """How long the shim may still take to end, now that nothing more is read from it."""
        if self.stopped is None:
            return self._limits.grace_s + SETTLE_S
        return max(0.0, self._give_up_at - time.monotonic())

    def wait_s(self) -> float | None:
        """How long nothing is to be done if nothing is heard."""
        if self.stopped is not None:
            ends = [self._give_up_at]
        else:
            ends = [self._quota.next_at]
            ends += [] if self._limits.wall_s is None else [self._began + self._limits.wall_s]
            ends += [] if self._limits.silence_s is None else [self._heard + self._limits.silence_s]
        return None if min(ends) == math.inf else max(0.0, min(ends) - time.monotonic())


def _stream(shim: Shim, *, watch: _Watch, progress: int, reporter: Reporter, redactor: Redactor) -> None:
    """Pass on what is printed until the shim has ended, and with it everything; then the rest of it."""

    def tell(stream: Stream, data: bytes) -> None:
        if data:
            reporter.output(stream=stream, data=data)

    with selectors.DefaultSelector() as selector:
        for descriptor in (*shim.streams, shim.status, watch.fileno(), progress):
            selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if watch.stops_now():
                selector.unregister(watch.fileno())
                shim.stop()
            if watch.given_up:
                return
            ready = {key.fd for key, _ in selector.select(watch.wait_s())}
            for descriptor in ready & shim.streams.keys():
                watch.hear()
                if data := os.read(descriptor, CHUNK):
                    tell(shim.streams[descriptor], redactor.piece(shim.streams[descriptor], data))
                else:
                    selector.unregister(descriptor)
            if progress in ready:
                watch.hear()
                _report(progress, reporter, redactor)
            if shim.status in ready:  # it speaks at its end, or was killed
                break
    for descriptor, stream in shim.streams.items():
        os.set_blocking(descriptor, False)
        with suppress(BlockingIOError):
            for _ in range(LAST_BYTES // CHUNK):
                if not (data := os.read(descriptor, CHUNK)):
                    break
                tell(stream, redactor.piece(stream, data))
        tell(stream, redactor.rest(stream))
    _report(progress, reporter, redactor)


def _report(progress: int, reporter: Reporter, redactor: Redactor) -> None:
    with suppress(BlockingIOError):
        if report := progress_of(redactor.whole(os.read(progress, CHUNK))):
            reporter.progress(fraction=report[0], note=report[1])


_PATHS = re.compile(r"(?<![\w.~:/-])/[\w./+@~-]*[\w/+@~-]")
_REFUSALS = re.compile(
    r"No such file|not found|not exist|cannot open|can't (open|cd)|cannot access|ENOENT|Read-only file", re.I
)


def hint(brief: Brief, text: str) -> str:
    """Where the work's last words complain of a path that the sandbox hides, or keeps as it is: that it does, and the
    remedy. It is not said whether there is anything at the path."""
    if not brief.confined or not _REFUSALS.search(text):
        return ""
    shown = view(brief)
    for path in map(Path, _PATHS.findall(text)):
        if not shown.shows(path):
            return (
                f" The sandbox hides {path} from it. If the work needs it, name it under `readable` in the plan or the agent"
                " type, or start the mission in that folder (docs/security.md)."
            )
    if "Read-only file" in text:
        return (
            " In the sandbox it may write to its scratch folder, /tmp and the mission's folder alone, and nowhere to the"
            " fleet's own code (docs/security.md)."
        )
    return ""


def _report_leftovers(count: int, reporter: Reporter) -> None:
    """Have the attempt tell what its work left running, in its output and as its last note."""
    if count:
        what = f"{count} process{' was' if count == 1 else 'es were'} still running and {'was' if count == 1 else 'were'} ended."
        reporter.output(stream="fleet", data=f"\n{what}\n".encode())
        reporter.progress(fraction=None, note=what)


def explain(ended: Ended, *, program: str, cwd: Path, limits: Limits) -> str:
    """One sentence on what went wrong, and what to do next where that is known."""
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
            return f"It printed nothing for {limit} (`silence`) and was stopped. Let it print, or raise the limit."
        case StopReason.MEMORY if limits.memory_bytes is not None:
            return (
                f"It was stopped: it held {_mb(ended.used)}, its limit is {_mb(limits.memory_bytes)}. "
                "Let it hold less, or raise the memory of its agent type in the admin."
            )
        case StopReason.PROCESSES:
            return (
                f"It was stopped: it had {ended.used:,} processes, its limit is {limits.processes:,}. "
                "Let it start fewer, or raise the processes of its agent type in the admin."
            )
        case StopReason.DISK_FULL:
            return (
                f"It was stopped, because it wrote to a disk of which only {_mb(ended.used)} are free. "
                "Make room on its host, or let it write less."
            )
        case StopReason.DISK | None if ended.used >= TOO_DEEP:
            return (
                f"{'It' if ended.code == 0 and ended.finished else 'It was stopped: it'} nested folders so deep in its "
                "scratch folder that their size cannot be measured. Keep paths below 4,096 bytes."
            )
        case StopReason.DISK | None if ended.used and limits.disk_bytes is not None:
            return (
                f"{'It' if ended.code == 0 and ended.finished else 'It was stopped: it'} wrote {_mb(ended.used)} to its "
                f"folder, its limit is {_mb(limits.disk_bytes)}. "
                "Let it write less, or raise the disk of its agent type in the admin."
            )
        case None if limits.disk_bytes is not None and ended.code in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ):
            return (
                f"It was stopped: it wrote a file larger than its limit of {_mb(limits.disk_bytes)}. "
                "Let it write less, or raise the disk of its agent type in the admin."
            )
        case StopReason():
            return f"It was stopped: {ended.stopped.replace('_', ' ')}."
    reason = os.strerror(ended.errno) if ended.errno else "no reason given"
    match ended.stage, ended.errno:
        case "shim", _:
            return "The process that watches over the work was killed, and the work with it."
        case "cwd", _:
            return f"The folder {str(cwd)!r} cannot be entered ({reason}). Check `cwd`."
        case "sandbox", _:
            return f"The sandbox could not be made, so nothing was run. {ended.why}"
        case "program", errno.ENOENT if not ((cwd / program).exists() if "/" in program else shutil.which(program)):
            return f"The program {program!r} was not found on this host. Install it, or correct the command."
        case "program", errno.ENOENT:
            return f"The program {program!r} names an interpreter in its first line that is not on this host."
        case "program", errno.EACCES:
            return f"The program {program!r} is not executable. Make it so (chmod +x), or name its interpreter."
        case "program", errno.E2BIG:
            return "The command and its environment are too long for the system. Hand large texts on in files."
        case "program", errno.EINVAL:
            return "The command or its environment holds a NUL character or half a surrogate pair, which no program can be given."
        case (("program" | "start"), _):
            return f"The program {program!r} could not be started ({reason})."
    if ended.left:
        return (
            f"It ended, but {ended.left} of its processes could not be ended (another user's?). End them on its host."
        )
    if ended.code < 0:
        return f"It was ended by signal {-ended.code} ({_name(-ended.code)})."
    return f"It ended with exit code {ended.code}."


def _mb(size: int) -> str:
    """What passed a limit is rounded up, so that it is never told as the limit itself."""
    return f"{math.ceil(size / 1_000_000):,} MB"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return "unnamed"


def evidence(
    ended: Ended, *, result: Json = None, added: tuple[Json, ...] = (), error: str = "", permanent: bool = False
) -> Evidence:
    """Evidence of an ended process; with an `error` it does not claim success. That its program or folder is missing or
    cannot be used, or that its command is too long, is permanent."""
    return Evidence(
        finished=ended.finished,
        ok=ended.ok and not error,
        exit_code=ended.code if ended.finished and ended.code >= 0 and not ended.stage else None,
        signal=-ended.code if ended.code < 0 else None,
        result=result,
        added=added,
        error=error,
        permanent=permanent or (ended.stage in ("program", "cwd") and ended.errno in _PERMANENT),
        stopped=ended.stopped,
        cpu_s=ended.cpu_s,
        max_rss_bytes=ended.max_rss_bytes,
        outputs=ended.outputs,
    )
