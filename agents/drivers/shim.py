"""One attempt's shim (agents/shim) as its worker holds it."""

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
from agents.drivers import sandbox
from agents.drivers.base import Limits, Stream
from agents.shim import lifeline

PROGRAM = str(Path(agents.shim.__file__).with_name("__main__.py"))
STATUS_BYTES = 64 * 1024  # a pipe holds no more
SETTLE_S = 5.0  # past the grace, until a shim that was told to stop is taken for stuck


class Status(TypedDict):
    """What a shim says at its end."""

    ended: bool  # the work ended by itself, before a stop
    expired: bool  # or was stopped because the end of its lease came near
    code: int  # exit code; a signal's number below zero
    stage: str  # "" if the program ran; else what failed: start, sandbox, cwd or program
    errno: int
    cpu_s: float
    max_rss_bytes: int
    left: int  # processes that could not be ended
    leftovers: int  # processes that were ended after the work had ended by itself
    outputs: list[int]  # for each output the errno with which its copy failed; 0: it is in the outbox


class Shim:
    """Starts at once. OSError or ValueError where the program or its environment cannot be given to the system.

    `stop` tells it to end everything; so does the death of this process, and the end of the lease unless `renew` moves it.
    `status` is the descriptor on which it speaks at its end and only then.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        named: Mapping[str, str],
        cwd: Path,
        scratch: Path,
        limits: Limits,
        lease_end: float = math.inf,
        view: sandbox.View | None,
        outputs: Sequence[str] = (),
        outbox: Path | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        """`env` is the work's environment, `named` the shim's own, by which the attempt's processes are found. `view` is
        what the work sees; None: it is not confined. Copies of `outputs` go to the folder `outbox`."""
        self._lock = threading.Lock()
        self.pid = 0  # the shim's; in the sandbox bubblewrap is between it and this process
        with ExitStack() as descriptors:

            def given(descriptor: int) -> int:
                descriptors.callback(os.close, descriptor)
                return descriptor

            environment = given(_file(os.fsencode(f"{name}={value}") for name, value in env.items()))
            folder = given(os.open(outbox, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)) if outbox and outputs else -1
            words, inherited = sandbox.options(view, descriptors) if view else ([], [])
            # Whatever a later step raises, no descriptor is left open.
            held_by_shim, self._lifeline = os.pipe()
            self.status, given_to_shim = os.pipe()
            given(held_by_shim)
            given(given_to_shim)
            os.set_blocking(self._lifeline, False)
            told, tell = os.pipe()  # where bubblewrap says which process the shim is
            given(told)
            words += ["--info-fd", str(tell)] if view else []
            if view:
                inherited.append(given(_file(map(os.fsencode, words))))
            command = [sandbox.program(), "--args", str(inherited[-1]), "--"] if view else []
            command += [sys.executable, "-I", "-S", PROGRAM]
            command += map(str, (held_by_shim, given_to_shim, environment, folder))
            command += map(str, (limits.grace_s, limits.linger_s, lease_end))
            command += map(str, (limits.disk_bytes or 0, self._processes(limits, view), limits.open_files or 0))
            command += map(str, (limits.output_bytes, cwd, scratch, len(outputs), *outputs, "--", *argv))
            descriptors_of_shim = (
                held_by_shim,
                given_to_shim,
                environment,
                *([folder] if folder >= 0 else []),
                *inherited,
            )
            try:
                self.process = subprocess.Popen(
                    command,
                    env=named,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=(*descriptors_of_shim, *([tell] if view else [])),
                    start_new_session=True,
                )
            except BaseException:
                os.close(self._lifeline)
                os.close(self.status)
                raise
            finally:
                os.close(tell)
            self.pid = _child(told) if view else self.process.pid

    @staticmethod
    def _processes(limits: Limits, view: sandbox.View | None) -> int:
        """The kernel counts processes by user and user namespace: without one of its own, the work would be charged for
        the user's others, and root for none. Then `Quota` counts."""
        return (limits.processes or 0) if view is not None and os.geteuid() != 0 else 0

    @property
    def streams(self) -> dict[int, Stream]:
        """What it prints, by descriptor."""
        pipes: dict[Stream, IO[bytes] | None] = {"stdout": self.process.stdout, "stderr": self.process.stderr}
        return {pipe.fileno(): name for name, pipe in pipes.items() if pipe is not None}

    def renew(self, lease_end: float) -> None:
        """Tell it until when the lease holds. Does not wait, and does nothing once it was told to stop."""
        with self._lock:
            if self._lifeline >= 0:
                lifeline.send(self._lifeline, lease_end)

    def stop(self) -> None:
        """Let it end everything; a second time does nothing."""
        with self._lock:
            if self._lifeline >= 0:
                os.close(self._lifeline)
                self._lifeline = -1

    def close(self, *, timeout_s: float) -> Status | None:
        """Stop it, wait for its end and let go. None: it was killed, or had to be, and may have left processes behind."""
        self.stop()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):  # its end ends everything in the sandbox, and then bubblewrap
                os.kill(self.pid or self.process.pid, signal.SIGKILL)
            self.process.wait()
        with open(self.status, "rb") as pipe:
            os.set_blocking(self.status, False)  # killed early, it may have left a copy of the other end somewhere
            line = pipe.read(STATUS_BYTES) or b""
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        if not line.endswith(b"}\n"):
            return None
        status: Status = json.loads(line)
        return status


def _file(words: Iterable[bytes]) -> int:
    """A file in memory that holds these words, each ended by NUL. ValueError where one holds a NUL itself."""
    data = list(words)
    if any(b"\0" in word for word in data):
        raise ValueError("embedded null byte")
    descriptor = os.memfd_create("fleet", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(b"".join(word + b"\0" for word in data))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _child(info: int) -> int:
    """The pid of the sandbox's first process, as bubblewrap tells it; 0 where it failed before there was one."""
    said = b""
    while not said.endswith(b"}\n") and (piece := os.read(info, 4096)):
        said += piece
    return int(json.loads(said)["child-pid"]) if said.endswith(b"}\n") else 0
