"""Starts a supervisor in the background, waits until it is ready, and stops it."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from fleet import errors, humanise
from fleet.config.home import Home
from fleet.console import invocation
from fleet.services import logfiles
from fleet.services.supervision import children, control_socket, lock, process_trees

LOG = "supervisor"
READY_S = 180  # until a supervisor must be ready
STOPPED_S = 120  # until it must have stopped
ENDED_S = 10  # until its process must have ended
POLL_S = 0.05


def start(home: Home, *, base: Path, argv: Sequence[str], say: Callable[[str], None]) -> dict[str, Any] | None:
    """Run the program `argv`, a supervisor, in the background and return its status once it is ready.

    Its output goes to its log and, until it is ready, to `say`. Ctrl-C stops it again. Returns None if another command
    has started a supervisor meanwhile. Raises Unavailable if it ends before it is ready.
    """
    home.create_folders()
    with contextlib.ExitStack() as stack:
        with _explain_interrupts(say):
            stack.enter_context(lock.hold_start(home, say))
        if lock.is_held(home):
            return None
        relay = _LogRelay(home, say)
        with logfiles.open_for_append(home, LOG) as log:
            process = subprocess.Popen(
                argv,
                cwd=base,
                env=invocation.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            return _wait_for_start(home, process, relay)
        except KeyboardInterrupt:
            _stop_start(process, relay, say)
            raise


def _wait_for_start(home: Home, process: subprocess.Popen[bytes], relay: _LogRelay) -> dict[str, Any] | None:
    deadline = time.monotonic() + READY_S
    while True:
        status = state(home)
        relay.show_new_lines()
        if status.get("pid") == process.pid and status["ready"]:
            return status
        if process.poll() is not None:
            relay.show_new_lines()
            if lock.is_held(home):  # another supervisor was started at the same moment and took the lock first
                return None
            raise errors.Unavailable(
                "The start failed for the reason given above.", hint=f"The full log is {logfiles.path(home, LOG)}."
            )
        _pause(deadline)


def _stop_start(process: subprocess.Popen[bytes], relay: _LogRelay, say: Callable[[str], None]) -> None:
    """Stop a supervisor that is not ready yet, and show its output until it has ended."""
    say("Interrupted. Stopping what has been started.")
    process.terminate()
    while process.poll() is None:
        try:
            relay.show_new_lines()
            time.sleep(POLL_S)
        except KeyboardInterrupt:  # stop now, without the grace periods
            process.terminate()
    relay.show_new_lines()
    say("The start was interrupted. What it had started is stopped.")


@contextlib.contextmanager
def _explain_interrupts(say: Callable[[str], None]) -> Iterator[None]:
    """After Ctrl-C during a wait for the start of another command, say that the start continues."""
    try:
        yield
    except KeyboardInterrupt:
        say(
            "No longer waiting. The start continues. "
            f"Show it: {invocation.command('fleet_services', 'status')}. Stop it: {invocation.command('fleet_down')}"
        )
        raise


def running_status(home: Home) -> dict[str, Any] | None:
    """Return the status of the running supervisor, ready or not; None if there is none.

    Waits for a supervisor that is stopping, and for one that does not listen yet.
    """
    deadline = time.monotonic() + READY_S
    while lock.is_held(home):
        status = state(home)
        if status["running"] and not status["stopping"]:
            return status
        _pause(deadline)
    return None


def wait_until_ready(home: Home, *, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the status of the running supervisor once it is ready; raises NotRunning if it ends before that.

    After Ctrl-C, `say` explains that the supervisor goes on starting.
    """
    deadline = time.monotonic() + READY_S
    with _explain_interrupts(say):
        while True:
            status = dict(control_socket.send_request(home, {"do": "status"}))
            if status["ready"]:
                return status
            _pause(deadline)


def state(home: Home) -> dict[str, Any]:
    """Return the running supervisor's status, or `{"running": False, "left": […]}` if none runs.

    `left` has the name and the pid of each process that a killed supervisor left behind.
    """
    try:
        return dict(control_socket.send_request(home, {"do": "status"}))
    except control_socket.NotRunning:
        orphans = [] if lock.is_held(home) else children.ChildRegistry(home).orphans()
        return {"running": False, "left": [{"name": orphan.name, "pid": orphan.pid} for orphan in reversed(orphans)]}


def stop(home: Home, *, say: Callable[[str], None]) -> bool:
    """Stop the running supervisor and wait for its end, or end what a killed one left behind.

    Returns False if there was nothing to stop. Raises Unavailable if the supervisor does not stop in time.
    """
    try:
        supervisor = control_socket.send_request(home, {"do": "status"})["pid"]
        control_socket.send_request(home, {"do": "stop"})
    except control_socket.NotRunning:
        supervisor = None
        if not lock.is_held(home):
            return _end_orphans(home, say)
    if not lock.wait_until_free(home, seconds=STOPPED_S):
        raise errors.Unavailable(
            f"The supervisor (pid {supervisor}) did not stop within {humanise.duration(STOPPED_S)}.",
            hint=f"See {logfiles.path(home, LOG)}. Killing it with kill -9 is safe: the next start cleans up.",
        )
    with contextlib.suppress(psutil.NoSuchProcess):  # the lock is free, but the process may take a moment to end
        if supervisor is not None:
            process_trees.wait([psutil.Process(supervisor)], seconds=ENDED_S)
    return True


def _end_orphans(home: Home, say: Callable[[str], None]) -> bool:
    if not home.run.exists():
        return False
    with lock.hold(home):
        ended = children.ChildRegistry(home).end_orphans(say)
        control_socket.remove(home)
    return bool(ended)


def _pause(deadline: float) -> None:
    """Sleep between two polls. Raises Unavailable after the deadline."""
    if time.monotonic() > deadline:
        raise errors.Unavailable(
            f"The supervisor is not ready after {humanise.duration(READY_S)}. It keeps trying.",
            hint=f"Watch it: {invocation.command('fleet_services', 'status')}",
        )
    time.sleep(POLL_S)


class _LogRelay:
    """Passes the lines that the supervisor's log gets from now on to `say`."""

    def __init__(self, home: Home, say: Callable[[str], None]) -> None:
        self._log, self._say = logfiles.path(home, LOG), say
        self._offset = self._log.stat().st_size if self._log.exists() else 0

    def show_new_lines(self) -> None:
        with self._log.open("rb") as log:
            log.seek(self._offset)
            complete, newline, _ = log.read().rpartition(b"\n")
        self._offset += len(complete) + len(newline)
        for line in complete.decode(errors="replace").splitlines():
            self._say(line)
