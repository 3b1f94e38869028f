"""Runs an operation in a forked process that is killed at its n-th step: a statement, a change of a file, or a command."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.db import connection, connections

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")


def at_each_step(operation: Callable[[], object], *, folder: Path, most: int = 400) -> Iterator[int]:
    """Run the operation again and again, killed at its first step, its second one and so on; yields after each kill.

    Ends after the run that no kill stopped. Steps are statements, files below `folder` that are opened for writing,
    renamed or removed, and processes that are started.
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


def halted_at_each_step(
    operation: Callable[[], object], *, folder: Path, first: int = 1, most: int = 400
) -> Iterator[int]:
    """Like at_each_step, but with SIGSTOP: after each `yield` the process continues (SIGCONT) until it ends.

    Exceptions of the operation are ignored then.
    """
    for step in range(first, most):
        connections.close_all()
        child = os.fork()
        if child == 0:
            _run(operation, step, folder, number=signal.SIGSTOP)
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            assert os.WEXITSTATUS(status) == 0, "the operation failed"
            return
        try:
            yield step
        finally:
            os.kill(child, signal.SIGCONT)
            os.waitpid(child, 0)
    raise AssertionError(f"the operation has more than {most} steps")


@contextmanager
def halted_before(operation: Callable[[], object], *, command: str, times: int) -> Iterator[None]:
    """Run the operation in a forked process, and halt it just before it starts this command for the n-th time.

    At the end of the block it continues, and its end is awaited. Its exceptions are ignored then.
    """
    connections.close_all()
    child = os.fork()
    if child == 0:
        started = itertools.count(1)

        def on_event(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "subprocess.Popen" and command in arguments[1] and next(started) == times:
                os.kill(os.getpid(), signal.SIGSTOP)

        sys.addaudithook(on_event)
        try:
            operation()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, os.WUNTRACED)
    assert os.WIFSTOPPED(status), f"it starts {command} less often"
    try:
        yield
    finally:
        os.kill(child, signal.SIGCONT)
        os.waitpid(child, 0)


def _run(operation: Callable[[], object], step: int, folder: Path, number: signal.Signals = signal.SIGKILL) -> None:
    """In the child: never returns."""
    steps = 0

    def take() -> None:
        nonlocal steps
        steps += 1
        if steps == step:
            os.kill(os.getpid(), number)

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE
        if event == "subprocess.Popen" or ((writes or event in CHANGES) and str(folder) in str(arguments[0])):
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
