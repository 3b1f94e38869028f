"""Writes what attempts report to Postgres, a few times a second for all attempts of the process.

Writes carry the fence (sortie, attempt), so a superseded attempt writes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from uuid import UUID

import psycopg

from agents.drivers.base import Stop
from fleet.postgres import hot_path, statements
from missions.engine.output.buffer import OutputBuffer, Piece, Progress

log = logging.getLogger("fleet.output")

FLUSH_S = 0.25
ACTIVITY_S = 10.0  # how often an attempt's activity is recorded, which the alert `silent` reads
CLOSE_TRIES = 40  # a restarting Postgres is back by then; after that, the rest of an output is discarded


class OutputWriter(threading.Thread):
    """Writes the open buffers. `close` returns once the rest of the buffer is written."""

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

        After CLOSE_TRIES the rest is discarded. A value to resume from is retried until the lease ends, because the
        outcome survives such an outage of Postgres, so the value must too.
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
            pieces: list[tuple[OutputBuffer, Piece]] = []
            progress: list[tuple[OutputBuffer, Progress]] = []
            resumes: list[tuple[OutputBuffer, str]] = []
            active = [
                buffer
                for buffer in buffers
                if buffer.active and time.monotonic() - buffer.activity_recorded_at >= ACTIVITY_S
            ]
            # In the order in which sorties are removed, because inserting a piece locks its sortie against removal.
            for buffer in sorted(buffers, key=lambda buffer: buffer.sortie):
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
            except psycopg.Error as error:
                log.warning("output could not be written (%s); retrying", str(error).strip())
                self._connection = None
                for buffer, piece in reversed(pieces):  # retried at the next flush; max_bytes bounds them meanwhile
                    with buffer.lock:
                        buffer.pieces.appendleft(piece)
                if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):  # an outage, not a bug
                    for buffer, resume in resumes:
                        with buffer.lock:
                            if buffer.unwritten_resume is None:  # else there is a newer value
                                buffer.unwritten_resume = resume
                return False
            return True

    def _write(
        self,
        pieces: list[tuple[OutputBuffer, Piece]],
        progress: list[tuple[OutputBuffer, Progress]],
        resumes: list[tuple[OutputBuffer, str]],
        active: list[OutputBuffer],
    ) -> None:
        for buffer in active:
            buffer.active, buffer.activity_recorded_at = False, time.monotonic()
        connection = self._connection = self._connection or hot_path.connect(name="output writer")
        with hot_path.transaction(connection):
            if pieces:
                connection.execute(
                    statements.read("missions.engine.output", "store_output"),
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
                    statements.read("missions.engine.output", "record_activity"),
                    {
                        "ids": [buffer.sortie for buffer in active],
                        "attempts": [buffer.attempt for buffer in active],
                    },
                )
            if progress:
                connection.execute(
                    statements.read("missions.engine.output", "record_progress"),
                    {
                        "ids": [buffer.sortie for buffer, _ in progress],
                        "attempts": [buffer.attempt for buffer, _ in progress],
                        "fractions": [fraction for _, (fraction, _) in progress],
                        "notes": [note for _, (_, note) in progress],
                    },
                )
            if resumes:
                connection.execute(
                    statements.read("missions.engine.output", "store_resume"),
                    {
                        "ids": [buffer.sortie for buffer, _ in resumes],
                        "attempts": [buffer.attempt for buffer, _ in resumes],
                        "resumes": [resume for _, resume in resumes],
                    },
                )
