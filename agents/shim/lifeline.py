"""The pipe from a worker to its shim. It carries renewals of the lease; when it is closed, the shim stops the workload.

Each record is one double: the new end of the lease on CLOCK_MONOTONIC. A record is written completely or not at all
(pipe(7), PIPE_BUF), and the pipe's capacity is a multiple of its size, so records are never split.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress

_RECORD = struct.Struct("=d")
_READ = 64 * 1024  # the capacity of a pipe


class Lifeline:
    """The shim's end of the pipe. `lease_end` is the latest one received; `closed` if the worker closed it or died."""

    def __init__(self, descriptor: int, *, lease_end: float) -> None:
        self.descriptor, self.lease_end, self.closed = descriptor, lease_end, False

    def receive(self) -> None:
        """Read all records in the pipe. Call it when the descriptor is readable."""
        data = os.read(self.descriptor, _READ)
        self.closed = not data
        self.lease_end = max([self.lease_end, *(lease_end for (lease_end,) in _RECORD.iter_unpack(data))])


def send(descriptor: int, lease_end: float) -> None:
    """Send a renewal to the shim without blocking. It is dropped if the pipe is full (the shim is halted) or closed."""
    with suppress(BlockingIOError, BrokenPipeError):
        os.write(descriptor, _RECORD.pack(lease_end))
