"""How much memory processes and all their descendants use."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import psutil


def of_trees(roots: Iterable[int]) -> dict[int, int]:
    """Bytes for each root pid, its descendants included. What several share is divided among them (PSS) where the
    kernel tells; elsewhere each counts it in full (RSS)."""
    children = defaultdict(list)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            children[process.ppid()].append(process.pid)
    totals = {}
    for root in roots:
        tree = [root]
        for pid in tree:
            tree.extend(children[pid])
        totals[root] = sum(_of(pid) for pid in tree)
    return totals


def _of(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0  # it has just ended
