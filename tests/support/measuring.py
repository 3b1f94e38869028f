"""Which of the processes that tests start have their coverage measured: those that are asked to, and not each of the
hundreds of commands, to which measuring would add as much time as they take."""

from __future__ import annotations

import os

_kept: dict[str, str] = {}


def keep() -> None:
    """Take out of this process's environment what makes coverage measure all that it starts."""
    for name in ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"):
        if (value := os.environ.pop(name, None)) is not None:
            _kept[name] = value


def measured() -> dict[str, str]:
    """The variables with which a process is measured; none where nothing is."""
    return dict(_kept)
