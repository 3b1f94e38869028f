"""Measures the coverage of selected child processes only.

Measuring doubles the run time of a command, and tests run hundreds of them.
"""

from __future__ import annotations

import os

_NAMES = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
_variables: dict[str, str] = {}


def withhold() -> None:
    """Move the variables that make coverage measure every child process out of this process's environment."""
    for name in _NAMES:
        if (value := os.environ.pop(name, None)) is not None:
            _variables[name] = value


def environment() -> dict[str, str]:
    """The variables that make coverage measure a child process; empty if this run measures nothing."""
    return dict(_variables)


def start() -> None:
    """Measure this process if its environment asks for it, although the interpreter started with another one."""
    if any(name in os.environ for name in _NAMES):
        import coverage  # noqa: PLC0415  (most runs measure nothing)

        coverage.process_startup()
