"""The pipe from a worker to its shim. It carries the ends of the lease, and its own end means: stop.

Each record is one double: a moment of CLOCK_MONOTONIC. A record is written whole or not at all (pipe(7), PIPE_BUF), and
the pipe holds whole records only, so none is ever cut.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress

_RECORD = struct.Struct("=d")
_READ = 64 * 1024  # all that a pipe holds


class Lifeline:
    """The shim's end. `lease_end` is the latest that was heard; `closed`: the worker has let go, or is dead."""

    def __init__(self, descriptor: int, *, lease_end: float) -> None:
        self.descriptor, self.lease_end, self.closed = descriptor, lease_end, False

    def hear(self) -> None:
        """Read what has come; something has."""
        data = os.read(self.descriptor, _READ)
        self.closed = not data
        self.lease_end = max([self.lease_end, *(moment for (moment,) in _RECORD.iter_unpack(data))])


def send(descriptor: int, lease_end: float) -> None:
    """Tell the shim of a renewal, without waiting. What it does not take (it is halted, or dead) it does not need."""
    with suppress(BlockingIOError, BrokenPipeError):
        os.write(descriptor, _RECORD.pack(lease_end))
