"""Long tests of a whole fleet: `make drills`. The run ends with a report of what each of them measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.acceptance.conftest import Fleet, fleet
from tests.support.processes import running

__all__ = ["fleet"]

REPORTS: list[str] = []
MB = 1_000_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.drill)
            item.add_marker(pytest.mark.timeout(1_200))
            item.add_marker(pytest.mark.xdist_group("drills"))


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    return lambda text: REPORTS.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if REPORTS:
        terminalreporter.section("reports of the drills")
        for line in REPORTS:
            terminalreporter.write_line(line)


class Memory(threading.Thread):
    """The peak resident memory of each of a fleet's own processes, by a word of its command line that identifies it."""

    WORDS = frozenset({"fleet_control", "fleet_node", "fleet.web", "fleet_mission"})

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(daemon=True)
        self.fleet, self.end = fleet, threading.Event()
        self.first: dict[tuple[str, int], int] = {}
        self.peaks: dict[tuple[str, int], int] = {}

    def run(self) -> None:
        while not self.end.wait(0.3):
            agents = {process.pid for process in running.agents(Path(self.fleet.env["FLEET_HOME"]))}
            for process in psutil.process_iter():
                try:
                    for word in ["agent"] if process.pid in agents else self._words(process):
                        now = process.memory_info().rss
                        self.first.setdefault((word, process.pid), now)
                        self.peaks[word, process.pid] = max(now, self.peaks.get((word, process.pid), 0))
                except psutil.Error:
                    continue

    def _words(self, process: psutil.Process) -> frozenset[str]:
        words = self.WORDS & set(process.cmdline())
        return words if words and process.environ().get("FLEET_HOME") == self.fleet.env["FLEET_HOME"] else frozenset()

    def growth(self, word: str) -> int:
        """The growth in bytes of the process with this word that grew most."""
        return max(peak - self.first[key] for key, peak in self.peaks.items() if key[0] == word)

    def __str__(self) -> str:
        peaks = {word: max(m for (w, _), m in self.peaks.items() if w == word) for word, _ in self.peaks}
        return ", ".join(f"{word} at most {peak // MB} MB" for word, peak in sorted(peaks.items()))


@contextmanager
def measure_memory(fleet: Fleet) -> Iterator[Memory]:
    memory = Memory(fleet)
    memory.start()
    time.sleep(1)
    try:
        yield memory
    finally:
        memory.end.set()
        memory.join()
