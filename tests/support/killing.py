"""Runs an operation in a forked process that is killed at its n-th step: a statement, or a change of a file."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.db import connection, connections

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")


def at_each_step(operation: Callable[[], object], *, folder: Path, most: int = 400) -> Iterator[int]:
    """Run the operation again and again, killed at its first step, its second one and so on; yields after each kill.

    Ends after the run that no kill stopped. Steps are statements, and files below `folder` that are opened for writing,
    renamed or removed.
    """
    for step in range(1, most):
        connections.close_all()  # the child must not share a connection with this process
        child = os.fork()
        if child == 0:
            _run(operation, step, folder)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0, "the operation failed"
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        yield step
    raise AssertionError(f"the operation has more than {most} steps")


def _run(operation: Callable[[], object], step: int, folder: Path) -> None:
    """In the child: never returns."""
    taken = 0

    def take() -> None:
        nonlocal taken
        taken += 1
        if taken == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE
        if (writes or event in CHANGES) and str(folder) in str(arguments[0]):
            take()

    def on_statement(execute: Callable[..., Any], *arguments: Any) -> Any:
        take()
        return execute(*arguments)

    sys.addaudithook(on_event)
    code = 1
    try:
        with connection.execute_wrapper(on_statement):
            operation()
        code = 0
    finally:
        os._exit(code)
