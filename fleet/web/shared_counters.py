"""What the processes of the site have open, counted together: by a piece of memory that they share, and nothing to wait for.

Each process writes a row of its own, and adds up all of them when it asks, so no row needs a lock. Who adds before it asks finds
no more than the limit, however many ask at once. The row of a process that was killed is cleared by the one that forks the next.
"""

from __future__ import annotations

import mmap

PLACES = 1 << 16  # of a row; two names that share one are counted together: which do is chance, anew at each start


class Tally:
    """Counts by name."""

    def __init__(self) -> None:
        self.share(1)

    def share(self, processes: int) -> None:
        """From now on it is counted by so many, which are forked after this."""
        self._rows = [memoryview(mmap.mmap(-1, PLACES * 4)).cast("i") for _ in range(processes)]
        self.take(0)

    def take(self, row: int) -> None:
        """The one that this process writes."""
        self._mine = self._rows[row]

    def clear(self, row: int) -> None:
        """Of a process that has ended."""
        self._rows[row][:] = memoryview(bytes(PLACES * 4)).cast("i")

    def add(self, name: str, by: int = 1) -> None:
        self._mine[hash(name) % PLACES] += by

    def count(self, name: str) -> int:
        """Of all processes."""
        place = hash(name) % PLACES
        return sum(row[place] for row in self._rows)


site = Tally()
