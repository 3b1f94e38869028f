"""A supervisor in the background: started so that it outlives its starter, watched until it is ready."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from fleet import errors, humanise, invocation
from fleet.config.home import Home
from fleet.services import logfiles
from fleet.services.supervision import children, control_socket, lock

LOG = "supervisor"
READY_S = 180
STOPPED_S = 120
ENDED_S = 10


def start(home: Home, *, base: Path, arguments: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Run `manage.py ARGUMENTS` (a supervisor in the foreground) in the background; its status once it is ready.

    What it says goes to its log, and to `say` until then. Unavailable, with its last words, when it ends before.
    """
    home.make()
    place = _size(home)
    with logfiles.open_for_append(home, LOG) as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=base,
            env=invocation.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + READY_S
    while True:
        status = state(home)
        place = _pass_on(home, place, say)
        if status.get("pid") == process.pid and status["ready"]:
            return status
        if process.poll() is not None:
            _pass_on(home, place, say)
            if lock.is_held(home):  # another one was started in the same moment, and first
                return wait_until_ready(home)
            raise errors.Unavailable(
                "The start failed; the lines above say why.", hint=f"The whole log is {logfiles.path(home, LOG)}."
            )
        _pause(deadline)


def running(home: Home) -> dict[str, Any] | None:
    """The status of the supervisor that runs and will go on, ready or not yet; None where there is none.

    One that is stopping is waited for, and so is one that does not listen yet.
    """
    deadline = time.monotonic() + READY_S
    while lock.is_held(home):
        status = state(home)
        if status["running"] and not status["stopping"]:
            return status
        _pause(deadline)
    return None


def wait_until_ready(home: Home) -> dict[str, Any]:
    """The status of the supervisor that runs, once it is ready; NotRunning when it ends before."""
    deadline = time.monotonic() + READY_S
    while True:
        status = dict(control_socket.ask(home, {"do": "status"}))
        if status["ready"]:
            return status
        _pause(deadline)


def state(home: Home) -> dict[str, Any]:
    """The running supervisor's status. Where there is none `{"running": False, "left": […]}`, with the name and the pid
    of each process that a killed one left behind."""
    try:
        return dict(control_socket.ask(home, {"do": "status"}))
    except control_socket.NotRunning:
        orphans = [] if lock.is_held(home) else children.Register(home).orphans()
        return {"running": False, "left": [{"name": one.name, "pid": one.pid} for one in reversed(orphans)]}


def stop(home: Home, *, say: Callable[[str], None]) -> bool:
    """Stop the supervisor that runs and wait until all is gone, or end what a killed one left; False where there was
    neither."""
    try:
        supervisor = control_socket.ask(home, {"do": "status"})["pid"]
        control_socket.ask(home, {"do": "stop"})
    except control_socket.NotRunning:
        supervisor = None
        if not lock.is_held(home):
            return _end_orphans(home, say)
    if not lock.wait_until_free(home, seconds=STOPPED_S):
        raise errors.Unavailable(
            f"The supervisor has not stopped within {humanise.duration(STOPPED_S)}.",
            hint=f"See {logfiles.path(home, LOG)}; kill -9 of it is safe: the next start cleans up.",
        )
    with contextlib.suppress(psutil.NoSuchProcess):  # it has nothing left to do, but may be there for another moment
        if supervisor is not None:
            children.wait([psutil.Process(supervisor)], seconds=ENDED_S)
    return True


def _end_orphans(home: Home, say: Callable[[str], None]) -> bool:
    if not home.run.exists():
        return False
    with lock.hold(home):
        left = children.Register(home).end_orphans(say)
        control_socket.forget(home)
    return bool(left)


def _pause(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise errors.Unavailable(
            f"It is not ready after {humanise.duration(READY_S)}, and keeps trying.",
            hint=f"See: {invocation.command('fleet_services', 'status')}",
        )
    time.sleep(0.05)


def _pass_on(home: Home, place: int, say: Callable[[str], None]) -> int:
    with logfiles.path(home, LOG).open("rb") as log:
        log.seek(place)
        whole, newline, _ = log.read().rpartition(b"\n")
    for line in whole.decode(errors="replace").splitlines():
        say(line)
    return place + len(whole) + len(newline)


def _size(home: Home) -> int:
    log = logfiles.path(home, LOG)
    return log.stat().st_size if log.exists() else 0
