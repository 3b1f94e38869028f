"""How an agent comes to be: a fork of its node, in which Django and Celery are loaded already.

Starting Python, Django and Celery anew costs more than two seconds of processor time an agent; a fork costs a tenth of
that, and the agents of a host share the memory that they do not change. It is safe because a node has one thread and
its children never touch what they inherit open (https://docs.python.org/3/library/os.html#os.fork).
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
from agents.drivers import sandbox
from fleet.celery import app
from fleet.observability import logs
from fleet.services.supervision.launch import follow_parent

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


def warm() -> None:
    """Load all that an agent will need, once, and keep the collector's hands off it so that it stays shared."""
    app.loader.import_default_modules()
    app.finalize(auto=True)
    discovery.discover()
    for module in WARM:
        importlib.import_module(module)
    if settings.FLEET_SANDBOX and sandbox.available()[0]:
        # Celery warns superusers, for what a message makes a worker run. Ours make it run nothing (they are hints), and
        # what agents run is shut off by the sandbox. Where there is none the warning stays.
        warnings.filterwarnings("ignore", category=SecurityWarning)
    gc.collect()
    gc.freeze()


@dataclass(slots=True, eq=False)
class Child:
    """A process that this one forked. `returncode` is as subprocess has it: negative for a signal."""

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it is still there: a pid that has not been waited for is nobody else's."""
        if self.poll() is None:
            os.kill(self.pid, number)


def fork_agent(*, argv: Sequence[str], env: Mapping[str, str], log: Path) -> Child:
    """Fork a Celery worker with these arguments. It has a session of its own, writes to `log`, and is asked to end when
    this process dies."""
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid)
    status = 0
    try:
        _become(parent=parent, env=env, log=log)
        app.worker_main(list(argv))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        status = 1
        logging.getLogger("fleet.birth").critical("an agent could not go on", exc_info=True)
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)  # never up into the node's own code


class _Log(io.FileIO):
    """A log on a disk that may be full: what does not fit is lost, and nobody who prints learns of it."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _speaker(number: int) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(_Log(number, "w", closefd=False)), "utf-8", "replace", line_buffering=True
    )


def _become(*, parent: int, env: Mapping[str, str], log: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    follow_parent(parent, signal.SIGTERM)
    for connection in connections.all():
        connection.connection = None  # the node's; psycopg closes nothing that another process opened
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, standard in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(ours, standard)
    os.closerange(3, 4096)
    for name, standard in (("stdout", 1), ("stderr", 2)):
        speaker = _speaker(standard)
        setattr(sys, name, speaker)
        setattr(sys, f"__{name}__", speaker)  # to which Celery prints its banner
    os.chdir(settings.BASE_DIR)
    os.environ.update(env)
    logs.speak()
