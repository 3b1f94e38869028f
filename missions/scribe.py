"""Writes down what attempts print and how far they have come, a few times a second, all of a process together.

What is kept of one attempt is bounded: the beginning as it comes, the end once it is known to be the end, and
between them a line that says how much was left out. Writes carry the fence: a zombie's output is dropped.
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

from fleet import statements
from missions import rows

log = logging.getLogger("fleet.scribe")

FLUSH_S = 0.25
HEARD_S = 10.0  # how often it is noted of an attempt that it is heard of, which the alert `silent` reads
CLOSE_TRIES = 40  # a Postgres that restarts is back by then; after that the end of an output is given up


@dataclass(frozen=True, slots=True)
class _Piece:
    stream: str
    at: float
    text: str
    size: int = 0  # bytes of the output that it was


@dataclass(slots=True, eq=False)
class Page:
    """What one attempt has said and is not written down yet. Its methods are called from the attempt's thread."""

    sortie: UUID
    attempt: int
    keep: int  # bytes, half for the head and half for the tail
    opened: Callable[[Page], None]  # told at the first thing said: most short attempts say nothing
    is_open: bool = False
    pieces: deque[_Piece] = field(default_factory=deque)  # of the head, to be written at the next flush
    tail: deque[_Piece] = field(default_factory=deque)
    head_bytes: int = 0
    tail_bytes: int = 0
    left_out: int = 0  # bytes
    said: tuple[float | None, str] | None = None
    heard: bool = False  # since that was last noted
    heard_at: float = field(default_factory=time.monotonic)  # when that was
    decoders: dict[str, codecs.IncrementalDecoder] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def output(self, *, stream: str, data: bytes) -> None:
        decoder = self.decoders.get(stream)
        if decoder is None:
            decoder = self.decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
        self.heard = True
        text = decoder.decode(data).replace("\x00", "�")
        if not text:
            return
        piece = _Piece(stream, time.time(), text, len(data))
        self._open()
        with self.lock:
            if self.head_bytes < self.keep // 2:
                self.head_bytes += len(data)
                self.pieces.append(piece)
                return
            self.tail.append(piece)
            self.tail_bytes += len(data)
            while self.tail_bytes > self.keep // 2 and len(self.tail) > 1:
                gone = self.tail.popleft().size
                self.tail_bytes -= gone
                self.left_out += gone

    def progress(self, *, fraction: float | None, note: str) -> None:
        self.heard = True
        self._open()
        with self.lock:
            self.said = (fraction, note.replace("\x00", "�")[:200])

    def started(self, *, pid: int, start_time: float) -> None:
        """Nothing to write: the attempt's row says that it runs."""

    def _open(self) -> None:
        if not self.is_open:
            self.is_open = True
            self.opened(self)

    def close(self) -> None:
        """Nothing more comes: the tail is part of what is written."""
        with self.lock:
            if self.left_out:
                self.pieces.append(_Piece("fleet", time.time(), f"\n… {self.left_out:,} bytes left out …\n"))
            self.pieces.extend(self.tail)
            self.tail.clear()


class Scribe(threading.Thread):
    """Flushes the open pages. A page that is being closed is flushed before `close` returns."""

    def __init__(self, *, keep: int) -> None:
        super().__init__(name="scribe", daemon=True)
        self.keep = keep
        self._pages: set[Page] = set()
        self._changed = threading.Condition()
        self._flushing = threading.Lock()
        self._stopping = False
        self._connection: rows.Connection | None = None

    def page(self, *, sortie: UUID, attempt: int) -> Page:
        return Page(sortie=sortie, attempt=attempt, keep=self.keep, opened=self._opened)

    def _opened(self, page: Page) -> None:
        with self._changed:
            self._pages.add(page)
            self._changed.notify()

    def close(self, page: Page) -> None:
        """Write the rest of a page, so that an attempt's output is there before its outcome is."""
        if not page.is_open:
            return
        page.close()
        for _ in range(CLOSE_TRIES):
            if self._flush([page]):
                break
            time.sleep(FLUSH_S)
        with self._changed:
            self._pages.discard(page)

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def run(self) -> None:
        while True:
            with self._changed:
                while not self._pages and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    return
                pages = list(self._pages)
            self._flush(pages)
            time.sleep(FLUSH_S)

    def _flush(self, pages: list[Page]) -> bool:
        with self._flushing:
            pieces: list[tuple[Page, _Piece]] = []
            said: list[tuple[Page, float | None, str]] = []
            heard = [page for page in pages if page.heard and time.monotonic() - page.heard_at >= HEARD_S]
            for page in pages:
                with page.lock:
                    pieces += [(page, piece) for piece in page.pieces]
                    page.pieces.clear()
                    if page.said is not None:
                        said.append((page, *page.said))
                        page.said = None
            if not pieces and not said and not heard:
                return True
            try:
                self._write(pieces, said, heard)
            except psycopg.Error as fault:
                log.warning("could not write %d pieces of output down: %s", len(pieces), fault)
                self._connection = None
                for page, piece in reversed(pieces):  # once more at the next flush; the head's bound holds them down
                    with page.lock:
                        page.pieces.appendleft(piece)
                return False
            return True

    def _write(
        self, pieces: list[tuple[Page, _Piece]], said: list[tuple[Page, float | None, str]], heard: list[Page]
    ) -> None:
        for page in heard:
            page.heard, page.heard_at = False, time.monotonic()
        connection = self._connection = self._connection or rows.connect(name="scribe")
        with connection.transaction():
            if pieces:
                connection.execute(
                    statements.read("missions", "output"),
                    {
                        "ids": [page.sortie for page, _ in pieces],
                        "attempts": [page.attempt for page, _ in pieces],
                        "streams": [piece.stream for _, piece in pieces],
                        "ats": [piece.at for _, piece in pieces],
                        "texts": [piece.text for _, piece in pieces],
                    },
                )
            if heard:
                connection.execute(
                    statements.read("missions", "heard"),
                    {"ids": [page.sortie for page in heard], "attempts": [page.attempt for page in heard]},
                )
            if said:
                connection.execute(
                    statements.read("missions", "progress"),
                    {
                        "ids": [page.sortie for page, _, _ in said],
                        "attempts": [page.attempt for page, _, _ in said],
                        "fractions": [fraction for _, fraction, _ in said],
                        "notes": [note for _, _, note in said],
                    },
                )
