"""Reads plans in a separate process, a child of the process that needs them.

Reading a plan of ten thousand sorties takes seconds of CPU time. In the web process, that would block all other
threads, because they share the global interpreter lock (GIL), and a read that hangs could not be stopped. The reader
process has no secrets, limited memory and the lowest priority, and is killed when the time is up.

Each side writes a length (8 bytes) and a pickle. A plan is sent in batches, so that the caller never holds the GIL
for as long as unpickling all of it takes.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import IO, Any

from fleet import errors
from missions.plan import loading, masking
from missions.plan.graph import advice
from missions.plan.problems import Advice, PlanError, PlanProblem, too_long
from missions.plan.specs import Plan, PlanContext, SortieSpec

ROOT = FilePath(__file__).resolve().parents[2]
MAX_MEMORY_BYTES = 3 << 30  # ten times what the largest plan needs
BATCH = 500  # sorties per message
MAX_SUMMARY_KEYS = 2_000
QUEUE_TIMEOUT_S = 5.0  # how long a plan waits for the one before it
WALL_TIME_FACTOR = 3.0  # the wall time that the allowed CPU time may take before the process is killed
# Not with -m: the pickled classes of this module would belong to __main__.
PROGRAM = "from missions.plan import reader_process; reader_process.main()"
_LENGTH = struct.Struct("!Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a check returns for a valid plan. `keys`: of its first MAX_SUMMARY_KEYS sorties."""

    name: str
    keys: Sequence[str]
    runs_code: bool
    warnings: Sequence[Advice]


class PlanReader:
    """The client of a reader process, which reads one plan at a time. It is started, or restarted, when needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def load(self, *, text: str, context: PlanContext) -> tuple[Plan, float]:
        """The plan, and the CPU time that reading it took.

        PlanError as in `missions.plan.load`; Unavailable if the reader is busy with other plans for too long.
        """
        with self._request("load", text, context) as (cost_s, plan):
            sorties: list[SortieSpec] = []
            for _ in range(0, plan["count"], BATCH):
                sorties += self._receive(QUEUE_TIMEOUT_S)
                time.sleep(0)  # let other threads run
            return replace(plan["plan"], sorties=tuple(sorties)), cost_s

    def summary(self, *, text: str, context: PlanContext) -> tuple[Summary, float]:
        """The summary of a plan, and the CPU time that reading it took; errors as in `load`."""
        with self._request("summary", text, context) as (cost_s, summary):
            return summary, cost_s

    def masked(self, *, text: str, context: PlanContext) -> str:
        """The text with its secrets hidden, as `masking.masked` returns it. Unavailable as in `load`."""
        try:
            with self._request("masked", text, context) as (_, masked_text):
                return str(masked_text)
        except PlanError:  # it takes too much time or memory
            return masking.WITHHELD

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    @contextlib.contextmanager
    def _request(self, kind: str, text: str, context: PlanContext) -> Iterator[tuple[float, Any]]:
        """The CPU time and the first message of the response. Until the block ends, no other request is served."""
        if not self._lock.acquire(timeout=QUEUE_TIMEOUT_S):
            raise errors.Unavailable("The reader is busy with other plans.", hint="Try again in a few seconds.")
        try:
            response, cost_s = self._send(kind, text, context)
            if isinstance(response, tuple):
                error = PlanError(response)
                error.cost_s = cost_s
                raise error
            yield cost_s, response
        except (EOFError, TimeoutError):  # between the batches of a plan
            self.stop()
            raise errors.Unavailable("The process that reads plans ended.", hint="Try again.") from None
        finally:
            self._lock.release()

    def _send(self, kind: str, text: str, context: PlanContext) -> tuple[Any, float]:
        """Send a request and return the first message of its response: problems as a tuple, or the result."""
        context = replace(context, callables=frozenset(context.callables))
        for _ in range(2):  # the process may have ended since the last request, for example for lack of memory
            fresh = self._process is None
            if self._process is None:
                self._process = _start()
            try:
                _write(self._process.stdin, (kind, text, context))
                return self._receive(WALL_TIME_FACTOR * context.max_s + QUEUE_TIMEOUT_S)  # type: ignore[no-any-return]
            except TimeoutError:
                self.stop()
                return (too_long(context.max_s),), context.max_s
            except (EOFError, OSError):
                self.stop()
                if fresh:
                    break
        message = "Reading this plan takes more memory than is allowed."
        too_large = PlanProblem(line=None, column=None, where="", message=message, fix="Split it into several plans.")
        return (too_large,), context.max_s

    def _receive(self, timeout_s: float) -> Any:
        """The next message. EOFError if the process has ended, TimeoutError if it sends nothing in time."""
        assert self._process is not None
        assert self._process.stdout is not None
        poll = select.poll()  # select(2) cannot handle descriptors above 1,023
        poll.register(self._process.stdout, select.POLLIN)
        if not poll.poll(min(timeout_s, 1e6) * 1_000):
            raise TimeoutError
        return _read(self._process.stdout)


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        bufsize=0,  # with a buffer, poll() would not see data that was read ahead
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={},  # it reads untrusted text, so it gets no secrets
        start_new_session=True,  # Ctrl-C is for its parent only
    )


def _write(pipe: IO[bytes] | None, message: object) -> None:
    assert pipe is not None
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    unsent = memoryview(_LENGTH.pack(len(data)) + data)
    while unsent:
        unsent = unsent[pipe.write(unsent) :]
    pipe.flush()


def _read(pipe: IO[bytes] | None) -> Any:
    assert pipe is not None
    (length,) = _LENGTH.unpack(_read_exactly(pipe, _LENGTH.size))
    return pickle.loads(_read_exactly(pipe, length))  # noqa: S301  # nosec B301  (written by the other half of this module)


def _read_exactly(pipe: IO[bytes], length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        if not (chunk := pipe.read(length - len(data))):
            raise EOFError
        data += chunk
    return bytes(data)


def _respond(kind: str, text: str, context: PlanContext) -> Iterator[object]:
    """The messages of a response. The first is a result, or a tuple of problems, with the CPU time."""
    before = time.process_time()
    if kind == "masked":
        yield masking.masked(text, max_s=context.max_s), time.process_time() - before
        return
    try:
        plan = loading.load(text=text, context=context)
    except PlanError as error:
        yield error.problems, time.process_time() - before
        return
    if kind == "summary":
        summary = Summary(
            name=plan.name,
            keys=[sortie.key for sortie in plan.sorties[:MAX_SUMMARY_KEYS]],
            runs_code=plan.runs_code,
            warnings=advice.warnings(plan),
        )
        yield summary, time.process_time() - before
        return
    yield {"plan": replace(plan, sorties=()), "count": len(plan.sorties)}, time.process_time() - before
    for first in range(0, len(plan.sorties), BATCH):
        yield plan.sorties[first : first + BATCH]


def main() -> None:
    """Serve requests until the parent closes the pipe."""
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, responses = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # anything printed goes to standard error, not into a response
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            for message in _respond(*_read(requests)):
                _write(responses, message)
    os._exit(0)  # skip the interpreter's cleanup: there is nothing to flush
