"""The output, progress and values to resume from that one attempt has reported and that are not yet written.

Each attempt keeps a bounded amount of output: the head as it arrives, the tail once it is known to be the tail, and
between them a line that says how much was left out.
"""

from __future__ import annotations

import codecs
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from uuid import UUID

from agents.drivers.base import Json
from fleet import values

JOINED = 500  # of `max_bytes`, the share up to which small pieces are joined: each becomes a row, with its overhead

Progress = tuple[float | None, str]  # fraction, note


@dataclass(frozen=True, slots=True)
class Piece:
    """Output that arrived together, as text."""

    stream: str
    at: float  # Unix time
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
    pieces: deque[Piece] = field(default_factory=deque)  # written at the next flush
    tail: deque[Piece] = field(default_factory=deque)
    head_bytes: int = 0
    tail_bytes: int = 0
    dropped_bytes: int = 0
    unwritten_progress: Progress | None = None
    unwritten_resume: str | None = None  # JSON text
    active: bool = False  # whether it has printed or reported since its activity was last recorded
    activity_recorded_at: float = field(default_factory=time.monotonic)
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
        piece = Piece(stream, time.time(), text, len(data))
        self._open()
        with self.lock:
            if self.head_bytes < self.max_bytes // 2:
                self.head_bytes += len(data)
                self._append(self.pieces, piece)
                return
            self._append(self.tail, piece)
            self.tail_bytes += len(data)
            while self.tail_bytes > self.max_bytes // 2 and len(self.tail) > 1:
                dropped = self.tail.popleft().size
                self.tail_bytes -= dropped
                self.dropped_bytes += dropped

    def _append(self, pieces: deque[Piece], piece: Piece) -> None:
        """Append a piece, or join it to the last one if both are small: a workload may print single bytes."""
        last = pieces[-1] if pieces else None
        if last is not None and last.stream == piece.stream and last.size + piece.size <= self.max_bytes // JOINED:
            pieces[-1] = replace(last, text=last.text + piece.text, size=last.size + piece.size)
        else:
            pieces.append(piece)

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

    def started(self, *, pid: int) -> None:
        """Nothing to write: the attempt's row says that it runs."""

    def _open(self) -> None:
        if not self.is_open:
            self.is_open = True
            self.on_open(self)

    def close(self) -> None:
        """Call it when the output is complete: it queues the tail for writing."""
        with self.lock:
            if self.dropped_bytes:
                self.pieces.append(Piece("fleet", time.time(), f"\n… {self.dropped_bytes:,} bytes left out …\n"))
            self.pieces.extend(self.tail)
            self.tail.clear()
