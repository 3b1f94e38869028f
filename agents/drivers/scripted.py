"""A driver without processes, for tests and the bench. The arguments of the sortie say what it does:

{}                            succeeds at once, with no result
result: …                     succeeds with that result
result_nul: true              succeeds with a result that Postgres cannot store
fail: "why"                   finishes without success
fail_times: 2                 fails in the first two attempts, then succeeds
raise: "text"                 raises, like a driver with a bug
output: {bytes, stream}       writes that many bytes first
progress: [[0.5, "note"], …]  reports progress first
add: [{name, agent, …}, …]    adds sorties
resume: …                     saves that value to resume from
result_resume: true           succeeds with what an earlier attempt saved to resume from
seconds: 1.5                  works that long before it ends
hold: true                    works until it is stopped
hold_until: "/path"           works until that path exists
ignore_stop: true             ignores a stop
kill_worker: true             kills its own process with signal 9
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from agents.confinement.attempt_limits import StopReason
from agents.drivers.base import AttemptBrief, Evidence, Json, Reporter, Stop, Stream

CHUNK = 64 * 1024
POLL_S = 0.01

_SUCCESS = Evidence(finished=True, ok=True)


class ScriptedDriver:
    """Follows the arguments of the brief (see above), in the calling thread."""

    name: ClassVar[str] = "scripted"

    def run(self, *, brief: AttemptBrief, reporter: Reporter, stop: Stop) -> Evidence:
        script = brief.arguments
        if not script:
            return _SUCCESS
        if script.get("kill_worker"):
            os.kill(os.getpid(), signal.SIGKILL)
        _report(script, reporter)
        stopped = _work(script, brief.limits.wall_s, stop)
        if stopped is not None:
            return Evidence(finished=False, ok=False, stopped=stopped, error=f"The workload was stopped: {stopped}.")
        return _end(script, brief)


def _report(script: Mapping[str, Json], reporter: Reporter) -> None:
    match script.get("output"):
        case {"bytes": int(count), **rest}:
            stream: Stream = "stderr" if rest.get("stream") == "stderr" else "stdout"
            while count > 0:
                data = (b"x" * 79 + b"\n") * (CHUNK // 80)
                reporter.output(stream=stream, data=data[:count])
                count -= len(data)
    match script.get("progress"):
        case list(reports):
            for report in reports:
                match report:
                    case [float() | int() | None as fraction, str(note)]:
                        reporter.progress(fraction=fraction, note=note)
    if "resume" in script:
        reporter.save_resume(value=script["resume"])


def _work(script: Mapping[str, Json], timeout_s: float | None, stop: Stop) -> StopReason | None:
    """Work as long as the script says. Returns the reason if it was stopped before its end."""
    if not script.keys() & {"seconds", "hold", "hold_until"}:
        return stop.reason
    seconds, path = script.get("seconds"), script.get("hold_until")
    started_at = time.monotonic()
    wake = select.poll()
    if not script.get("ignore_stop"):
        wake.register(stop.fileno(), select.POLLIN)
    while True:
        elapsed = time.monotonic() - started_at
        if isinstance(seconds, int | float) and elapsed >= seconds:
            return None
        if isinstance(path, str) and Path(path).exists():
            return None
        if timeout_s is not None and elapsed >= timeout_s:
            return StopReason.TIMEOUT
        if wake.poll(POLL_S * 1000):
            return stop.reason


def _end(script: Mapping[str, Json], brief: AttemptBrief) -> Evidence:
    attempt = int(brief.marker.rpartition("/")[2] or 1) if "fail_times" in script else 1
    match script:
        case {"raise": text}:
            raise RuntimeError(str(text))
        case {"fail": why}:
            return Evidence(finished=True, ok=False, exit_code=1, error=str(why))
        case {"fail_times": int(times)} if attempt <= times:
            return Evidence(finished=True, ok=False, exit_code=1, error=f"Attempt {attempt}; the first {times} fail.")
    match script.get("add"):
        case list(sorties):
            added = tuple(sortie for sortie in sorties if isinstance(sortie, dict))
        case _:
            added = ()
    if script.get("result_resume"):
        return Evidence(finished=True, ok=True, result=brief.resume, added=added)
    return Evidence(
        finished=True, ok=True, result="a\x00b" if script.get("result_nul") else script.get("result"), added=added
    )
