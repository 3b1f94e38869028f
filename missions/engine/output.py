"""Attempts' output, progress and values to resume from: buffered per attempt, written a few times a second.

Each attempt keeps a bounded amount: the head as it arrives, the tail once it is known to be the tail, and between them
a line that says how much was left out. Writes carry the fence (sortie, attempt), so a superseded attempt writes
nothing.
"""

from __future__ import annotations

import codecs
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import psycopg

from agents.drivers.base import Json, Stop
from fleet import values
from fleet.postgres import hot_path, statements

log = logging.getLogger("fleet.output")

FLUSH_S = 0.25
ACTIVITY_S = 10.0  # how often an attempt's activity is recorded, which the alert `silent` reads
CLOSE_TRIES = 40  # a Postgres that restarts is back by then; after that the rest of an output is given up

Progress = tuple[float | None, str]  # fraction, note


@dataclass(frozen=True, slots=True)
class _Piece:
    stream: str
    at: float
    text: str
    size: int = 0  # bytes of output that it came from


@dataclass(slots=True, eq=False)
class OutputBuffer:
    """What one attempt has reported and the writer has not yet written. Called from the attempt's thread."""

    sortie: UUID
    attempt: int
    max_bytes: int  # half for the head, half for the tail
    on_open: Callable[[OutputBuffer], None]  # called at the first report: most short attempts report nothing
    is_open: bool = False
    pieces: deque[_Piece] = field(default_factory=deque)  # to be written at the next flush
    tail: deque[_Piece] = field(default_factory=deque)
    head_bytes: int = 0
    tail_bytes: int = 0
    dropped_bytes: int = 0
    unwritten_progress: Progress | None = None
    unwritten_resume: str | None = None  # JSON text
    active: bool = False  # since its activity was last recorded
    active_at: float = field(default_factory=time.monotonic)  # when it was last recorded
    decoders: dict[str, codecs.IncrementalDecoder] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def output(self, *, stream: str, data: bytes) -> None:
        decoder = self.decoders.get(stream)
        if decoder is None:
            decoder = self.decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
        self.active = True
        text = decoder.decode(data).replace("\x00", "�")
        if not text:
            return
        piece = _Piece(stream, time.time(), text, len(data))
        self._open()
        with self.lock:
            if self.head_bytes < self.max_bytes // 2:
                self.head_bytes += len(data)
                self.pieces.append(piece)
                return
            self.tail.append(piece)
            self.tail_bytes += len(data)
            while self.tail_bytes > self.max_bytes // 2 and len(self.tail) > 1:
                dropped = self.tail.popleft().size
                self.tail_bytes -= dropped
                self.dropped_bytes += dropped

    def progress(self, *, fraction: float | None, note: str) -> None:
        self.active = True
        self._open()
        with self.lock:
            self.unwritten_progress = (fraction, note.replace("\x00", "�")[:200])

    def save_resume(self, *, value: Json) -> None:
        self.active = True
        self._open()
        with self.lock:
            self.unwritten_resume = values.encode(value)

    def started(self, *, pid: int, start_time: float) -> None:
        """Nothing to write: the attempt's row says that it runs."""

    def _open(self) -> None:
        if not self.is_open:
            self.is_open = True
            self.on_open(self)

    def close(self) -> None:
        """The output is complete: queue its tail for writing."""
        with self.lock:
            if self.dropped_bytes:
                self.pieces.append(_Piece("fleet", time.time(), f"\n… {self.dropped_bytes:,} bytes left out …\n"))
            self.pieces.extend(self.tail)
            self.tail.clear()


class OutputWriter(threading.Thread):
    """Writes the open buffers. `close` returns once the buffer's rest is written."""

    def __init__(self, *, max_bytes: int) -> None:
        super().__init__(name="output writer", daemon=True)
        self.max_bytes = max_bytes
        self._buffers: set[OutputBuffer] = set()
        self._changed = threading.Condition()
        self._flushing = threading.Lock()
        self._stopping = False
        self._connection: hot_path.Connection | None = None

    def buffer(self, *, sortie: UUID, attempt: int) -> OutputBuffer:
        return OutputBuffer(sortie=sortie, attempt=attempt, max_bytes=self.max_bytes, on_open=self._add)

    def _add(self, buffer: OutputBuffer) -> None:
        with self._changed:
            self._buffers.add(buffer)
            self._changed.notify()

    def close(self, buffer: OutputBuffer, *, stop: Stop) -> None:
        """Write the rest of a buffer, so that an attempt's output is stored before its outcome.

        After CLOSE_TRIES the rest is given up. A value to resume from is kept until the lease ends, because an outage
        of Postgres that the outcome survives must not lose it.
        """
        if not buffer.is_open:
            return
        buffer.close()
        tries = 0
        while not self._flush([buffer]):
            tries += 1
            if tries >= CLOSE_TRIES and (buffer.unwritten_resume is None or time.monotonic() >= stop.lease_end):
                break
            time.sleep(FLUSH_S)
        with self._changed:
            self._buffers.discard(buffer)

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def run(self) -> None:
        while True:
            with self._changed:
                while not self._buffers and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    return
                buffers = list(self._buffers)
            self._flush(buffers)
            time.sleep(FLUSH_S)

    def _flush(self, buffers: list[OutputBuffer]) -> bool:
        with self._flushing:
            pieces: list[tuple[OutputBuffer, _Piece]] = []
            progress: list[tuple[OutputBuffer, Progress]] = []
            resumes: list[tuple[OutputBuffer, str]] = []
            active = [
                buffer for buffer in buffers if buffer.active and time.monotonic() - buffer.active_at >= ACTIVITY_S
            ]
            for buffer in buffers:
                with buffer.lock:
                    pieces += [(buffer, piece) for piece in buffer.pieces]
                    buffer.pieces.clear()
                    if buffer.unwritten_progress is not None:
                        progress.append((buffer, buffer.unwritten_progress))
                        buffer.unwritten_progress = None
                    if buffer.unwritten_resume is not None:
                        resumes.append((buffer, buffer.unwritten_resume))
                        buffer.unwritten_resume = None
            if not pieces and not progress and not resumes and not active:
                return True
            try:
                self._write(pieces, progress, resumes, active)
            except psycopg.Error as fault:
                log.warning("could not write %d pieces of output: %s", len(pieces), fault)
                self._connection = None
                for buffer, piece in reversed(pieces):  # retried at the next flush; max_bytes bounds them meanwhile
                    with buffer.lock:
                        buffer.pieces.appendleft(piece)
                if isinstance(fault, psycopg.OperationalError | psycopg.InterfaceError):  # an outage, not a bug
                    for buffer, resume in resumes:
                        with buffer.lock:
                            if buffer.unwritten_resume is None:  # else there is a newer value
                                buffer.unwritten_resume = resume
                return False
            return True

    def _write(
        self,
        pieces: list[tuple[OutputBuffer, _Piece]],
        progress: list[tuple[OutputBuffer, Progress]],
        resumes: list[tuple[OutputBuffer, str]],
        active: list[OutputBuffer],
    ) -> None:
        for buffer in active:
            buffer.active, buffer.active_at = False, time.monotonic()
        connection = self._connection = self._connection or hot_path.connect(name="output writer")
        with hot_path.transaction(connection):
            if pieces:
                connection.execute(
                    statements.read("missions.engine", "output"),
                    {
                        "ids": [buffer.sortie for buffer, _ in pieces],
                        "attempts": [buffer.attempt for buffer, _ in pieces],
                        "streams": [piece.stream for _, piece in pieces],
                        "ats": [piece.at for _, piece in pieces],
                        "texts": [piece.text for _, piece in pieces],
                    },
                )
            if active:
                connection.execute(
                    statements.read("missions.engine", "record_activity"),
                    {
                        "ids": [buffer.sortie for buffer in active],
                        "attempts": [buffer.attempt for buffer in active],
                    },
                )
            if progress:
                connection.execute(
                    statements.read("missions.engine", "progress"),
                    {
                        "ids": [buffer.sortie for buffer, _ in progress],
                        "attempts": [buffer.attempt for buffer, _ in progress],
                        "fractions": [fraction for _, (fraction, _) in progress],
                        "notes": [note for _, (_, note) in progress],
                    },
                )
            if resumes:
                connection.execute(
                    statements.read("missions.engine", "resume"),
                    {
                        "ids": [buffer.sortie for buffer, _ in resumes],
                        "attempts": [buffer.attempt for buffer, _ in resumes],
                        "resumes": [resume for _, resume in resumes],
                    },
                )
