"""Reads plans in a process of their own, started by whoever asks and ended with them.

Reading a plan of ten thousand sorties takes seconds of a processor. In the process that asks they would be taken from all its
threads, as Python runs one of them at a time; and nothing else there could end a reading that hangs. This process has no
secrets, little memory and the lowest claim to a processor, and is killed when the time is up.

Each side writes a length (8 bytes) and a pickle. A plan comes in pieces, so that whoever asked does not hold Python's lock for
as long as all of it takes to unpack.
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
from missions.plan import loading
from missions.plan.faults import Advice, Fault, PlanError, too_long
from missions.plan.graph import advice
from missions.plan.specs import Plan, SortieSpec, Surroundings

ROOT = FilePath(__file__).resolve().parents[2]
MOST_BYTES = 3 << 30  # of memory: ten times what the largest plan takes
PIECE = 500  # sorties that come at a time
KEYS = 2_000  # of a summary, at most
PATIENCE_S = 5.0  # that a plan waits until the one before it has been read
LATER = 3.0  # times its processor time, and a few seconds, until the process is killed: others use processors too
PROGRAM = "from missions.plan import reader_process; reader_process.main()"  # not -m: its classes would be of __main__
_LENGTH = struct.Struct("!Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a check tells of a plan that is good. `keys` are the first of its sorties."""

    name: str
    keys: Sequence[str]
    executes: bool
    warnings: Sequence[Advice]


class Reader:
    """A process that reads one plan at a time; it starts with the first and again after one that it did not outlive."""

    def __init__(self) -> None:
        self._alone = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def load(self, *, text: str, surroundings: Surroundings) -> tuple[Plan, float]:
        """The plan, and the processor time that reading took. PlanError as by `missions.plan.load`; Unavailable where others
        are being read for too long."""
        with self._asked("load", text, surroundings) as (cost_s, plan):
            sorties: list[SortieSpec] = []
            for _ in range(0, plan["count"], PIECE):
                sorties += self._receive(PATIENCE_S)
                time.sleep(0)  # others may want Python's lock
            return replace(plan["plan"], sorties=tuple(sorties)), cost_s

    def summary(self, *, text: str, surroundings: Surroundings) -> tuple[Summary, float]:
        """What a plan is, without its sorties; as `load` else."""
        with self._asked("summary", text, surroundings) as (cost_s, summary):
            return summary, cost_s

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    @contextlib.contextmanager
    def _asked(self, what: str, text: str, surroundings: Surroundings) -> Iterator[tuple[float, Any]]:
        """What came of it, while nobody else is answered."""
        if not self._alone.acquire(timeout=PATIENCE_S):
            raise errors.Unavailable("Other plans are being read here.", hint="Try again in a few seconds.")
        try:
            found, cost_s = self._ask(what, text, surroundings)
            if isinstance(found, tuple):
                failed = PlanError(found)
                failed.cost_s = cost_s
                raise failed
            yield cost_s, found
        except (EOFError, TimeoutError):  # in the middle of a plan's pieces
            self.stop()
            raise errors.Unavailable("The process that reads plans ended.", hint="Try again.") from None
        finally:
            self._alone.release()

    def _ask(self, what: str, text: str, surroundings: Surroundings) -> tuple[Any, float]:
        around = replace(surroundings, callables=frozenset(surroundings.callables))
        for _ in range(2):  # it may have been ended since the last time, by the system's lack of memory, say
            fresh = self._process is None
            if self._process is None:
                self._process = _start()
            try:
                _write(self._process.stdin, (what, text, around))
                return self._receive(LATER * surroundings.max_s + PATIENCE_S)  # type: ignore[no-any-return]
            except TimeoutError:
                self.stop()
                return (too_long(surroundings.max_s),), surroundings.max_s
            except (EOFError, OSError):
                self.stop()
                if fresh:
                    break
        fix = "Split it into several plans."
        failed = Fault(
            line=None, column=None, where="", fault="Reading this plan takes more memory than there is.", fix=fix
        )
        return (failed,), surroundings.max_s

    def _receive(self, within_s: float) -> Any:
        """EOFError where the process has ended, TimeoutError where it says nothing."""
        assert self._process is not None
        assert self._process.stdout is not None
        waiting = select.poll()  # select(2) knows no descriptor above 1,023
        waiting.register(self._process.stdout, select.POLLIN)
        if not waiting.poll(min(within_s, 1e6) * 1_000):
            raise TimeoutError
        return _read(self._process.stdout)


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        bufsize=0,  # or what was read ahead would be waited for
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={},  # what strangers wrote is read there, and nothing secret is in reach
        start_new_session=True,  # Ctrl-C is for who asked
    )


def _write(pipe: IO[bytes] | None, message: object) -> None:
    assert pipe is not None
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    rest = memoryview(_LENGTH.pack(len(data)) + data)
    while rest:
        rest = rest[pipe.write(rest) :]
    pipe.flush()


def _read(pipe: IO[bytes] | None) -> Any:
    assert pipe is not None
    (length,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
    return pickle.loads(_exactly(pipe, length))  # noqa: S301  # nosec B301  (written by the other half of this module)


def _exactly(pipe: IO[bytes], length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        if not (piece := pipe.read(length - len(data))):
            raise EOFError
        data += piece
    return bytes(data)


def _answer(what: str, text: str, surroundings: Surroundings) -> Iterator[object]:
    before = time.process_time()
    try:
        plan = loading.load(text=text, surroundings=surroundings)
    except PlanError as wrong:
        yield wrong.faults, time.process_time() - before
        return
    if what == "summary":
        summary = Summary(
            name=plan.name,
            keys=[sortie.key for sortie in plan.sorties[:KEYS]],
            executes=any(sortie.executes for sortie in plan.sorties),
            warnings=advice.warnings(plan),
        )
        yield summary, time.process_time() - before
        return
    yield {"plan": replace(plan, sorties=()), "count": len(plan.sorties)}, time.process_time() - before
    for first in range(0, len(plan.sorties), PIECE):
        yield plan.sorties[first : first + PIECE]


def main() -> None:
    """Until nobody asks any more."""
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints, it is no answer
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            for answer in _answer(*_read(asked)):
                _write(answers, answer)
    os._exit(0)  # nothing is left to be written
