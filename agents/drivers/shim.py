"""Starts and controls the shim of one attempt (agents/shim) from the worker."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, TypedDict

import agents.shim
from agents.confinement import bubblewrap, seccomp
from agents.confinement.attempt_limits import Limits
from agents.confinement.view import View
from agents.drivers.base import Stream
from agents.shim import lifeline

PROGRAM = str(Path(agents.shim.__file__).with_name("__main__.py"))
STATUS_BYTES = 64 * 1024  # the capacity of a pipe
SETTLE_S = 5.0  # after the grace period, until a shim that should have stopped counts as stuck


class Status(TypedDict):
    """What a shim reports when it ends."""

    ended: bool  # the workload ended on its own, before a stop
    expired: bool  # the workload was stopped because the end of its lease was near
    code: int  # exit code; -N for signal N
    stage: str  # the step that failed: start, cwd, program or interpreter; "" if the program ran
    errno: int
    cpu_s: float
    max_rss_bytes: int
    survivors: int  # processes that could not be killed
    leftovers: int  # processes that were still running after the workload had ended, and were ended
    outputs: list[int]  # per output, the errno of its copy; 0: it is in the outbox


class Shim:
    """A running shim, which the constructor starts.

    The shim ends everything when `stop` is called, when this process dies, and at the end of the lease unless `renew`
    moves it. `status` is a descriptor that becomes readable only when the shim ends. The constructor raises OSError or
    ValueError if the system rejects the arguments.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        markers: Mapping[str, str],
        cwd: Path,
        scratch: Path,
        limits: Limits,
        lease_end: float = math.inf,
        view: View | None,
        outputs: Sequence[str] = (),
        outbox: Path | None = None,
        stdin: int = subprocess.DEVNULL,
        cgroup: int = -1,
    ) -> None:
        """`env` is the environment of the workload, `markers` that of the shim, which identifies its processes.

        `view` is what the workload sees; None runs it without a sandbox. Copies of `outputs` go to the folder `outbox`.
        `cgroup` is the descriptor of the cgroup in which the workload starts; -1: that of this process.
        """
        self._lock = threading.Lock()
        self.pid = 0  # the shim's; in the sandbox bubblewrap is between it and this process
        with ExitStack() as descriptors:

            def close_later(descriptor: int) -> int:
                descriptors.callback(os.close, descriptor)
                return descriptor

            environment = close_later(_memory_file(os.fsencode(f"{name}={value}") for name, value in env.items()))
            folder = (
                close_later(os.open(outbox, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)) if outbox and outputs else -1
            )
            rules = seccomp.filter_file(descriptors, network=view.network) if view else -1
            options, inherited = bubblewrap.options(view, descriptors) if view else ([], [])
            # Whatever a later step raises, no descriptor may stay open.
            shim_lifeline, self._lifeline = os.pipe()
            self.status, shim_status = os.pipe()
            close_later(shim_lifeline)
            close_later(shim_status)
            os.set_blocking(self._lifeline, False)
            info, bwrap_info = os.pipe()  # bubblewrap writes the pid of the shim to it
            close_later(info)
            options += ["--info-fd", str(bwrap_info)] if view else []
            # The shim needs it to limit what its user namespace may use, and drops it afterwards.
            options += ["--cap-add", "CAP_SYS_RESOURCE"] if view and os.geteuid() != 0 else []
            if view:
                inherited.append(close_later(_memory_file(map(os.fsencode, options))))
            command = [bubblewrap.program(), "--args", str(inherited[-1]), "--"] if view else []
            command += [sys.executable, "-I", "-S", PROGRAM]
            command += map(str, (shim_lifeline, shim_status, environment, folder, rules, cgroup))
            command += map(str, (limits.grace_s, limits.linger_s, lease_end))
            command += map(str, (limits.disk_bytes or 0, self._processes(limits, view), limits.open_files or 0))
            command += map(str, (limits.output_bytes, cwd, scratch, len(outputs), *outputs, "--", *argv))
            pass_fds = (
                *(shim_lifeline, shim_status, environment),
                *(descriptor for descriptor in (folder, rules, cgroup) if descriptor >= 0),
                *([bwrap_info] if view else []),
                *inherited,
            )
            try:
                self.process = subprocess.Popen(
                    command,
                    env=markers,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=pass_fds,
                    start_new_session=True,
                )
            except BaseException:
                os.close(self._lifeline)
                os.close(self.status)
                raise
            finally:
                os.close(bwrap_info)
            self.pid = _child_pid(info) if view else self.process.pid

    @staticmethod
    def _processes(limits: Limits, view: View | None) -> int:
        """The process limit that the kernel can enforce, else 0; then only `Quota` does.

        The kernel counts processes per user and user namespace. Without its own namespace, the workload would be
        charged for the user's other processes, and root is exempt from the limit.
        """
        return (limits.processes or 0) if view is not None and os.geteuid() != 0 else 0

    @property
    def streams(self) -> dict[int, Stream]:
        """The output streams of the workload, by descriptor."""
        pipes: dict[Stream, IO[bytes] | None] = {"stdout": self.process.stdout, "stderr": self.process.stderr}
        return {pipe.fileno(): name for name, pipe in pipes.items() if pipe is not None}

    def renew(self, lease_end: float) -> None:
        """Move the end of the lease. Does not block, and does nothing after `stop`."""
        with self._lock:
            if self._lifeline >= 0:
                lifeline.send(self._lifeline, lease_end)

    def stop(self) -> None:
        """Make the shim end everything. Calling it again does nothing."""
        with self._lock:
            if self._lifeline >= 0:
                os.close(self._lifeline)
                self._lifeline = -1

    def close(self, *, timeout_s: float) -> Status | None:
        """Stop the shim and wait for its end. None: it was or had to be killed, and may have left processes behind."""
        self.stop()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):  # with the shim, everything in the sandbox ends, and then bubblewrap
                os.kill(self.pid or self.process.pid, signal.SIGKILL)
            self.process.wait()
        with open(self.status, "rb") as pipe:
            os.set_blocking(self.status, False)  # if it was killed, another process may hold the other end open
            line = pipe.read(STATUS_BYTES) or b""
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        if not line.endswith(b"}\n"):
            return None
        status: Status = json.loads(line)
        return status


def _memory_file(items: Iterable[bytes]) -> int:
    """Create a file in memory with these items, each terminated by NUL. Raises ValueError if an item contains a NUL."""
    data = list(items)
    if any(b"\0" in item for item in data):
        raise ValueError("embedded null byte")
    descriptor = os.memfd_create("fleet", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(b"".join(item + b"\0" for item in data))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _child_pid(info: int) -> int:
    """Read the pid of the sandbox's first process from bubblewrap; 0 if it failed before it started one."""
    data = b""
    while not data.endswith(b"}\n") and (piece := os.read(info, 4096)):
        data += piece
    return int(json.loads(data)["child-pid"]) if data.endswith(b"}\n") else 0
