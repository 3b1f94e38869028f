"""Counters of open connections and streams, shared by all processes of the site, without locks.

Each process writes its own row of shared memory, and reads the sum of all rows, so no row needs a lock. A process that
adds before it reads never admits more than the limit. The parent clears the row of a process that has ended.
"""

from __future__ import annotations

import mmap

SLOTS = 1 << 16  # per row; names are hashed to slots, so in rare cases two names share a counter


class SharedCounters:
    """Counters by name."""

    def __init__(self) -> None:
        self.allocate(1)

    def allocate(self, processes: int) -> None:
        """Allocate a row for each process. Call it before forking them."""
        self._rows = [memoryview(mmap.mmap(-1, SLOTS * 4)).cast("i") for _ in range(processes)]
        self.use_row(0)

    def use_row(self, row: int) -> None:
        """Select the row that this process writes."""
        self._row = self._rows[row]

    def clear(self, row: int) -> None:
        """Clear the row of a process that has ended."""
        self._rows[row][:] = memoryview(bytes(SLOTS * 4)).cast("i")

    def add(self, name: str, by: int = 1) -> None:
        self._row[hash(name) % SLOTS] += by

    def count(self, name: str) -> int:
        """The sum over all processes."""
        slot = hash(name) % SLOTS
        return sum(row[slot] for row in self._rows)


site = SharedCounters()
