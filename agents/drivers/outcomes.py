"""How a driver's process ended: as evidence for the engine, and explained to people."""

from __future__ import annotations

import errno
import math
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

from agents.confinement.attempt_limits import Limits, StopReason
from agents.confinement.quota import UNMEASURABLE
from agents.drivers.base import AttemptBrief, Evidence, Json
from fleet import humanise

# Start errors caused by the command, its environment or its folder. Others (EAGAIN, ENOMEM …) are temporary.
_PERMANENT = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.E2BIG, errno.EINVAL),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR),
}
_PATHS = re.compile(r"(?<![\w.~:/-])/[\w./+@~-]*[\w/+@~-]")
_REFUSALS = re.compile(
    r"No such file|not found|not exist|cannot open|can't (open|cd)|cannot access|ENOENT|Read-only file", re.I
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOutcome:
    """How an attempt's processes ended.

    `stage` is the step at which the start failed: shim, start, sandbox, cwd, program or interpreter.
    """

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


def explain(outcome: ProcessOutcome, *, program: str, cwd: Path, limits: Limits) -> str:
    """Explain in a sentence or two what went wrong and, if known, what to do next."""
    if text := _why_stopped(outcome, limits) or _why_not_started(outcome, program=program, cwd=cwd):
        return text
    if outcome.survivors:
        return (
            f"It ended, but {outcome.survivors} of its processes could not be killed; they may belong to another user. "
            "Kill them on its host."
        )
    if outcome.code < 0:
        return f"It was killed by signal {-outcome.code} ({_signal_name(-outcome.code)})."
    return f"It ended with exit code {outcome.code}."


def _why_stopped(outcome: ProcessOutcome, limits: Limits) -> str:
    """Why it was stopped, or which limit it exceeded; empty if neither."""
    # A limit can also be found exceeded when it has ended on its own.
    subject = "It" if outcome.code == 0 and outcome.finished else "It was stopped: it"
    match outcome.stopped:
        case StopReason.TIMEOUT if (
            limits.max_duration_s is not None and limits.wall_s == limits.max_duration_s != limits.timeout_s
        ):
            return (
                f"It ran longer than {humanise.duration(limits.max_duration_s)}, the longest that its agent type allows, "
                "and was stopped. Make it faster, or raise the type's limit in the admin (Agent types)."
            )
        case StopReason.TIMEOUT if limits.timeout_s is not None:
            return (
                f"It ran longer than its timeout of {humanise.duration(limits.timeout_s)} and was stopped. "
                "Raise `timeout`, or make it faster."
            )
        case StopReason.SILENCE if limits.silence_s is not None:
            return (
                f"It printed nothing for {humanise.duration(limits.silence_s)} (`silence`) and was stopped. "
                "Print progress more often, or raise the limit."
            )
        case StopReason.MEMORY if limits.memory_bytes is not None:
            return (
                f"It was stopped: it used {_mb(outcome.used)} of memory; its limit is {_mb(limits.memory_bytes)}. "
                "Use less memory, or raise the memory limit of its agent type in the admin."
            )
        case StopReason.PROCESSES:
            return (
                f"It was stopped: it had {outcome.used:,} processes; its limit is {limits.processes:,}. "
                "Start fewer at once."
            )
        case StopReason.DISK_FULL:
            return (
                f"It was stopped, because it wrote to a disk with only {_mb(outcome.used)} left. "
                "Free space on its host, or write less."
            )
        case StopReason.DISK | None if outcome.used >= UNMEASURABLE:
            return (
                f"{subject} nested folders so deeply in its scratch folder, or made them inaccessible so often, that their "
                "size cannot be measured. Keep paths below 4,096 bytes, and folders accessible to their owner."
            )
        case StopReason.DISK | None if outcome.used and limits.disk_bytes is not None:
            return (
                f"{subject} wrote {_mb(outcome.used)} to its folder; its limit is {_mb(limits.disk_bytes)}. "
                "Write less, or raise the disk limit of its agent type in the admin."
            )
        case None if limits.disk_bytes is not None and outcome.code in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ):
            return (
                f"It was stopped: it wrote a file larger than its limit of {_mb(limits.disk_bytes)}. "
                "Write less, or raise the disk limit of its agent type in the admin."
            )
        case StopReason():
            return f"It was stopped: {outcome.stopped.replace('_', ' ')}."
    return ""


def _why_not_started(outcome: ProcessOutcome, *, program: str, cwd: Path) -> str:
    """Why it could not be started; empty if it was."""
    reason = os.strerror(outcome.errno) if outcome.errno else "no reason given"
    match outcome.stage, outcome.errno:
        case "shim", _:
            return "The shim, which supervises the workload, was killed, and the workload with it."
        case "cwd", _:
            return f"The folder {str(cwd)!r} cannot be entered ({reason}). Check `cwd`."
        case "sandbox", _:
            return f"The sandbox could not be set up, so nothing was run. {outcome.why}"
        case "program", errno.ENOENT:
            return f"The program {program!r} was not found on this host. Install it, or correct the command."
        case "interpreter", _:
            return (
                f"The interpreter in the first line of the program {program!r} was not found on this host. "
                "Install it, or correct the line."
            )
        case "program", errno.EACCES:
            return f"The program {program!r} is not executable. Make it executable (chmod +x), or name its interpreter."
        case "program", errno.E2BIG:
            return "The command and its environment are too long for the system. Pass large text in files."
        case "program", errno.EINVAL:
            return "The command or its environment contains a NUL or an unpaired surrogate. Remove it."
        case (("program" | "start"), _):
            return f"The program {program!r} could not be started ({reason})."
    return ""


def _mb(size: int) -> str:
    """Megabytes, rounded up, so that a value above a limit never reads as the limit itself."""
    return f"{math.ceil(size / 1_000_000):,} MB"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return "unnamed"


def evidence(
    outcome: ProcessOutcome,
    *,
    result: Json = None,
    added: tuple[Json, ...] = (),
    error: str = "",
    permanent: bool = False,
) -> Evidence:
    """Build the evidence of an ended process. With an `error` it does not report success.

    A program or folder that is missing or unusable, and a command that is too long, are permanent errors.
    """
    return Evidence(
        finished=outcome.finished,
        ok=outcome.ok and not error,
        exit_code=outcome.code if outcome.finished and outcome.code >= 0 and not outcome.stage else None,
        signal=-outcome.code if outcome.code < 0 else None,
        result=result,
        added=added,
        error=error,
        permanent=permanent or (outcome.stage in ("program", "interpreter", "cwd") and outcome.errno in _PERMANENT),
        stopped=outcome.stopped,
        cpu_s=outcome.cpu_s,
        max_rss_bytes=outcome.max_rss_bytes,
        outputs=outcome.outputs,
    )


def sandbox_hint(brief: AttemptBrief, text: str) -> str:
    """Explain an error about a path that the sandbox hides or makes read-only; "" if the text contains none.

    It does not reveal whether anything exists at the path.
    """
    if not brief.confined or not _REFUSALS.search(text):
        return ""
    visible = brief.view()
    for path in map(Path, _PATHS.findall(text)):
        if not visible.shows(path):
            return (
                f" The sandbox hides {path}. If the workload needs it, list it under `readable` in the plan or the agent"
                " type, or start the mission in that folder (docs/security.md)."
            )
        if visible.is_in_private_tmp(path):
            return (
                f" {path} is in the sandbox's own /tmp, which starts empty. If the workload needs a file from the host's"
                " /tmp, move it elsewhere or list it under `readable` (docs/security.md)."
            )
    if "Read-only file" in text:
        return (
            " In the sandbox, a workload can write only to its scratch folder, /tmp and the mission's folder, and never to the"
            " fleet's own code (docs/security.md)."
        )
    return ""
