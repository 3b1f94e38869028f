"""What drivers with a process share: start it under a shim, stream what it prints, keep its limits, leave nothing."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from agents.drivers import reaper, sandbox
from agents.drivers.base import Brief, Evidence, Json, Reporter, Stop, StopReason, Stream

CHUNK = 64 * 1024
SMALL_NEED = 32 * 1024  # bytes of a need's result that also fit into a variable
ENVIRONMENT_BYTES = 512 * 1024  # of all needs in variables together; the kernel bounds a process's start
AFTER_STOP_S = 8.0  # beyond the grace, until the shim itself is given up


class Unreadable(Exception):
    """A file that the work wrote for the fleet is not what it should be; the text says what and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a process tree ended. `stage` names where its start failed: sandbox, cwd or program."""

    finished: bool
    code: int
    stage: str = ""
    errno: int = 0
    stopped: StopReason | None = None
    cpu_s: float | None = None
    max_rss_bytes: int | None = None

    @property
    def ok(self) -> bool:
        return self.finished and self.code == 0 and not self.stage


def run(*, argv: Sequence[str], brief: Brief, env: Mapping[str, str], reporter: Reporter, stop: Stop) -> Ended:
    """Run a program to its end, and all that it starts. Standard input is `brief.stdin`."""
    confined = bool(brief.hidden) and sandbox.available()[0]
    cwd = brief.cwd or brief.scratch
    hidden = [str(path) for path in brief.hidden] if confined else []
    stdin = brief.scratch / "stdin"
    stdin.write_text(brief.stdin, encoding="utf-8")
    with contextlib.ExitStack() as open_:
        lifeline, held = os.pipe()
        status, said = os.pipe()
        held_file = open_.enter_context(os.fdopen(held, "wb"))
        status_file = open_.enter_context(os.fdopen(status, "rb"))
        progress = open_.enter_context(_fifo(brief.scratch / "progress"))
        try:
            with stdin.open("rb") as given:
                shim = subprocess.Popen(
                    [
                        sys.executable, "-I", "-S", str(sandbox.SHIM), str(lifeline), str(said),
                        str(brief.limits.grace_s), "1" if confined else "0", str(cwd), *hidden, "--", *argv,
                    ],
                    stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(env),
                    pass_fds=(lifeline, said), start_new_session=True,
                )  # fmt: skip
        finally:
            os.close(lifeline)
            os.close(said)
        assert shim.stdout is not None
        assert shim.stderr is not None
        open_.enter_context(shim.stdout)
        open_.enter_context(shim.stderr)
        with contextlib.suppress(psutil.Error):
            reporter.started(pid=shim.pid, start_time=psutil.Process(shim.pid).create_time())
        stopped = _stream(
            shim, held=held_file, status=status_file, progress=progress, brief=brief, reporter=reporter, stop=stop
        )
        line = status_file.read() if shim.returncode is not None else b""
    try:
        told: dict[str, Any] = json.loads(line)
    except ValueError:  # the shim itself was killed
        reaper.reap(brief.marker, fleet=brief.fleet)
        return Ended(finished=False, code=shim.returncode or -9, stopped=stopped, stage="shim")
    return Ended(
        finished=bool(told["ended"]) and stopped is None,
        code=int(told["code"]),
        stage=str(told["stage"]),
        errno=int(told["errno"]),
        stopped=stopped,
        cpu_s=float(told["cpu_s"]),
        max_rss_bytes=int(told["max_rss_bytes"]),
    )


@contextlib.contextmanager
def _fifo(path: Path) -> Any:
    """A named pipe to read progress from. It is held open for writing too, so that a writer's end is not its end."""
    os.mkfifo(path, 0o600)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    writing = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def _stream(
    shim: subprocess.Popen[bytes],
    *,
    held: Any,
    status: Any,
    progress: int,
    brief: Brief,
    reporter: Reporter,
    stop: Stop,
) -> StopReason | None:
    """Pass on what is printed until the tree is gone. Closing `held` asks the shim to stop; why it was, if it was."""
    began = heard = time.monotonic()
    stopped: StopReason | None = None
    given_up_at = float("inf")
    streams: dict[int, Stream] = {shim.stdout.fileno(): "stdout", shim.stderr.fileno(): "stderr"}  # type: ignore[union-attr]
    limits = brief.limits
    with selectors.DefaultSelector() as selector:
        for descriptor in (*streams, status.fileno(), stop.fileno(), progress):
            selector.register(descriptor, selectors.EVENT_READ)
        open_streams = set(streams)
        status_said = False
        while open_streams or not status_said:
            now = time.monotonic()
            if stopped is None:
                if stop.reason is not None:
                    stopped = stop.reason
                elif limits.timeout_s is not None and now - began >= limits.timeout_s:
                    stopped = StopReason.TIMEOUT
                elif limits.silence_s is not None and now - heard >= limits.silence_s:
                    stopped = StopReason.SILENCE
                if stopped is not None:
                    selector.unregister(stop.fileno())
                    held.close()
                    given_up_at = now + limits.grace_s + AFTER_STOP_S
            elif now > given_up_at:
                shim.kill()
                reaper.reap(brief.marker, fleet=brief.fleet)
                break
            for key, _ in selector.select(_wait_s(began, heard, limits.timeout_s, limits.silence_s, stopped)):
                descriptor = key.fd
                if descriptor in streams:
                    data = os.read(descriptor, CHUNK)
                    if data:
                        heard = time.monotonic()
                        reporter.output(stream=streams[descriptor], data=data)
                    else:
                        selector.unregister(descriptor)
                        open_streams.discard(descriptor)
                elif descriptor == progress:
                    heard = time.monotonic()
                    _report(os.read(progress, CHUNK), reporter)
                elif descriptor == status.fileno():
                    selector.unregister(descriptor)
                    status_said = True
    shim.wait()
    return stopped


def _wait_s(
    began: float, heard: float, timeout_s: float | None, silence_s: float | None, stopped: StopReason | None
) -> float | None:
    if stopped is not None:
        return 0.5
    now = time.monotonic()
    ends = [began + timeout_s - now] if timeout_s is not None else []
    ends += [heard + silence_s - now] if silence_s is not None else []
    return max(0.0, min(ends)) if ends else None


def _report(data: bytes, reporter: Reporter) -> None:
    """Lines `0.4 what is being done`, or only the words."""
    for line in data.decode("utf-8", "replace").splitlines():
        first, _, rest = line.strip().partition(" ")
        try:
            fraction = min(1.0, max(0.0, float(first)))
        except ValueError:
            reporter.progress(fraction=None, note=line.strip())
        else:
            reporter.progress(fraction=fraction if fraction == fraction else None, note=rest.strip())


def environment(brief: Brief) -> dict[str, str]:
    """All that the work's environment holds: what is allowed of the host's, what the plan sets, the fleet's variables."""
    allowed = {name: os.environ[name] for name in brief.env_allow if name in os.environ}
    needs = brief.scratch / "needs"
    needs.mkdir(mode=0o700)
    small: dict[str, str] = {}
    spent = 0
    for name, result in brief.needs.items():
        text = json.dumps(result, ensure_ascii=False)
        _private(needs / f"{name}.json", text)
        size = len(text.encode())
        if size <= SMALL_NEED and spent + size <= ENVIRONMENT_BYTES and "\\u0000" not in text:
            spent += size
            small[f"FLEET_NEED_{_variable(name)}"] = text
    inputs = {
        f"FLEET_INPUT_{_variable(name)}": value if isinstance(value, str) else json.dumps(value)
        for name, value in brief.inputs.items()
    }
    return {
        **allowed,
        **brief.env,
        **small,
        **inputs,
        "FLEET_ATTEMPT": brief.marker,
        "FLEET_HOME_ID": brief.fleet,
        "FLEET_RESULT": str(brief.scratch / "result.json"),
        "FLEET_SORTIES": str(brief.scratch / "sorties.json"),
        "FLEET_PROGRESS": str(brief.scratch / "progress"),
        "FLEET_NEEDS": str(needs),
        "FLEET_SCRATCH": str(brief.scratch),
    }


def _variable(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name).upper()


def _private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text)


def read_json(path: Path, *, what: str, limit: int) -> tuple[bool, Json]:
    """The JSON that the work left at a path, and whether there is any. Unreadable for what is no plain file of JSON."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False, None
    except OSError as fault:
        raise Unreadable(f"{what} cannot be read ({fault.strerror}). Write a plain file to its path.") from fault
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unreadable(f"{what} is not a plain file. Write JSON to its path.")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Unreadable(f"{what} is larger than {limit:,} bytes. Give large things out as files, under `outputs`.")
    try:
        return True, json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as fault:
        raise Unreadable(f"{what} is not JSON ({fault}). Write one JSON value, in UTF-8.") from fault


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a value of JSON")


def explain(ended: Ended, *, program: str, cwd: Path, limits: Any) -> str:
    """One sentence on what went wrong, and what to do next where that is known."""
    match ended.stopped:
        case StopReason.TIMEOUT:
            return f"It ran longer than its timeout of {limits.timeout_s:g} s and was stopped. Raise `timeout`, or make it faster."
        case StopReason.SILENCE:
            return f"It printed nothing for {limits.silence_s:g} s (`silence`) and was stopped."
        case StopReason():
            return f"It was stopped: {ended.stopped}."
    reason = os.strerror(ended.errno) if ended.errno else ""
    match ended.stage:
        case "shim":
            return "The process that watches over the work was killed, and the work with it."
        case "cwd":
            return f"The folder {str(cwd)!r} cannot be entered ({reason}). Check `cwd`."
        case "sandbox":
            return (
                f"The work could not be shut off from the fleet's credentials ({reason}). Run `manage.py fleet_doctor`."
            )
        case "program" | "start":
            if ended.errno == errno.ENOENT and not shutil.which(program):
                return f"The program {program!r} was not found on this host. Install it, or correct the command."
            return f"The program {program!r} could not be started ({reason})."
    if ended.code < 0:
        return f"It was ended by signal {-ended.code}."
    return f"It ended with exit code {ended.code}."


def evidence(
    ended: Ended, *, result: Json = None, added: tuple[Mapping[str, Json], ...] = (), error: str = ""
) -> Evidence:
    """Evidence of an ended process; with an `error` it does not claim success."""
    return Evidence(
        finished=ended.finished,
        ok=ended.ok and not error,
        exit_code=ended.code if ended.code >= 0 and not ended.stage else None,
        signal=-ended.code if ended.code < 0 else None,
        result=result,
        added=added,
        error=error,
        stopped=ended.stopped,
        cpu_s=ended.cpu_s,
        max_rss_bytes=ended.max_rss_bytes,
    )


def added_from(brief: Brief) -> tuple[Mapping[str, Json], ...]:
    """The sorties that the work asks to add. Unreadable where they are not a list of mappings."""
    there, wanted = read_json(
        brief.scratch / "sorties.json",
        what="The list of sorties to add (FLEET_SORTIES)",
        limit=brief.limits.result_bytes,
    )
    if not there:
        return ()
    if not isinstance(wanted, list) or not all(isinstance(one, dict) for one in wanted):
        raise Unreadable('The sorties to add (FLEET_SORTIES) are not a list: [{"name": …, "agent": …, "run": …}].')
    return tuple(one for one in wanted if isinstance(one, dict))
