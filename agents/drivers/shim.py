"""One attempt's shim (agents/shim) as its worker holds it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TypedDict

import agents.shim
from agents.drivers.base import Stream
from agents.shim import lifeline

PROGRAM = str(Path(agents.shim.__file__).with_name("__main__.py"))
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
        cwd: Path,
        grace_s: float,
        linger_s: float = 0.0,
        lease_end: float = math.inf,
        confined: bool,
        hidden: Iterable[Path] = (),
        file_bytes: int | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self._lock = threading.Lock()
        held_by_shim, self._lifeline = os.pipe()
        os.set_blocking(self._lifeline, False)
        self.status, given_to_shim = os.pipe()
        words = [
            str(held_by_shim),
            str(given_to_shim),
            str(grace_s),
            str(linger_s),
            str(lease_end),
            str(int(confined)),
            str(file_bytes or 0),
            str(cwd),
        ]
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", PROGRAM, *words, *map(str, hidden), "--", *argv],
                env=env,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(held_by_shim, given_to_shim),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._lifeline)
            os.close(self.status)
            raise
        finally:
            os.close(held_by_shim)
            os.close(given_to_shim)

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
            self.process.kill()
            self.process.wait()
        with open(self.status, "rb") as pipe:
            os.set_blocking(self.status, False)  # killed early, it may have left a copy of the other end somewhere
            line = pipe.read(4096) or b""
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        if not line.endswith(b"}\n"):
            return None
        status: Status = json.loads(line)
        return status
