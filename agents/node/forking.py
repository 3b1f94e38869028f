"""Starts agents as forks of their node, in which Django and Celery are loaded already.

Loading Python, Django and Celery takes more than two seconds of CPU time per agent. A fork takes a tenth of that,
and the agents of a host share the memory that they do not change. It is safe because a node has one thread and its
children never use the connections that they inherit (https://docs.python.org/3/library/os.html#os.fork).
"""

from __future__ import annotations

import gc
import importlib
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from celery.exceptions import SecurityWarning
from django.conf import settings
from django.db import connections

from agents import discovery
from agents.confinement import probe
from fleet.celery import app
from fleet.host.launch import follow_parent
from fleet.observability import logs

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

WARM = (
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.thread",
    "celery.worker.consumer",
    "celery.worker.strategy",
    "kombu.transport.redis",
)


def warm_up() -> None:
    """Load everything that an agent needs, and freeze it for the garbage collector, so that its memory stays shared."""
    app.loader.import_default_modules()
    app.finalize(auto=True)
    discovery.discover()
    for module in WARM:
        importlib.import_module(module)
    if settings.FLEET_SANDBOX and not probe.sandbox_problem():
        # Celery warns root, because messages can make a worker run code. Ours cannot (they are hints), and the sandbox
        # confines what agents run. Without a sandbox the warning stays.
        warnings.filterwarnings("ignore", category=SecurityWarning)
    gc.collect()
    gc.freeze()


@dataclass(slots=True, eq=False)
class AgentProcess:
    """A forked agent. `returncode` is like that of subprocess: negative for a signal."""

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        """Reap the process if it has ended. Returns the return code, or None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send(self, number: signal.Signals) -> None:
        """Signal the process if it still runs. Until it is reaped, the kernel does not reuse its pid."""
        if self.poll() is None:
            os.kill(self.pid, number)


def fork_agent(*, argv: Sequence[str], env: Mapping[str, str], log: Path) -> AgentProcess:
    """Fork a Celery worker with these arguments.

    It gets its own session, writes to `log`, and receives SIGTERM when this process dies.
    """
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return AgentProcess(pid)
    status = 0
    try:
        _become_agent(parent=parent, env=env, log=log)
        app.worker_main(list(argv))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        status = 1
        logging.getLogger("fleet.node").critical("the agent crashed", exc_info=True)
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)  # never return into the node's own code


class _Log(io.FileIO):
    """A log file that never raises: on a full disk, output is lost."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _text_stream(number: int) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(_Log(number, "w", closefd=False)), "utf-8", "replace", line_buffering=True
    )


def _become_agent(*, parent: int, env: Mapping[str, str], log: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    follow_parent(parent, signal.SIGTERM)
    for connection in connections.all():
        connection.connection = None  # the node's; psycopg does not close a connection of another process
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    devnull = os.open(os.devnull, os.O_RDONLY)
    for source, standard in ((devnull, 0), (output, 1), (output, 2)):
        os.dup2(source, standard)
    os.closerange(3, 4096)
    for name, standard in (("stdout", 1), ("stderr", 2)):
        stream = _text_stream(standard)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)  # Celery prints its banner to this one
    os.chdir(settings.BASE_DIR)
    os.environ.update(env)
    logs.enable_info()
