"""Ships the log files of agents to Postgres, where every host can read them.

An agent appends to the file of its post, after the output of its predecessors, so each agent has a start offset in the
file and, once it is dead, an end offset. Rows keep the last FLEET_AGENT_LOG_BYTES of each agent. The disk keeps the
file and two older ones, each at most FILE_BYTES plus what is printed between two rounds.

Secrets never reach a row: the fleet's own credentials are redacted everywhere, and so is the password in every URL.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet

from agents.models import LogPiece
from fleet.observability import redaction
from fleet.services import logfiles

FILE_BYTES = 10_000_000
OLDER_FILES = 2
PIECE = 64 * 1024  # characters per row
ANCHOR = 2_000  # last characters of a piece, by which its position in the file is found again
INCOMPLETE_LINE_BYTES = 64 * 1024  # a longer incomplete line is shipped without waiting for its end


def path(*, type: str, ordinal: int, node: str) -> Path:
    """The log file of a post on a node, which its agents append to in turn. Nodes may share the folder."""
    return Path(settings.FLEET_HOME.logs / f"agent-{type}-{ordinal}@{node.replace('/', '_')}.log")


@dataclass(slots=True, eq=False)
class Tail:
    """How far one agent's log has been read, and which rows store it."""

    agent: UUID
    path: Path
    offset: int
    end: int | None = None  # where the log of a dead agent stops
    rows: deque[tuple[int, int]] = field(default_factory=deque)  # id and number of characters
    characters: int = 0

    def read(self, *, limit: int) -> tuple[bytes, int, int]:
        """Return the new data, its end in the file, and how many bytes before it were skipped to stay below `limit`.

        Incomplete lines are left for later, so that no secret in them is cut in two.
        """
        try:
            with open(self.path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < self.offset:  # it was truncated
                    self.offset = 0
                    self.end = None if self.end is None else min(self.end, size)
                until = size if self.end is None else self.end
                start = max(self.offset, until - limit)
                file.seek(start)
                data = file.read(until - start)
        except FileNotFoundError:
            return b"", self.offset, 0
        skipped = start - self.offset
        if skipped:
            _, newline, rest = data.partition(b"\n")
            skipped, data = (skipped + len(data) - len(rest), rest) if newline else (skipped, data)
        if self.end is None:
            complete = data.rfind(b"\n") + 1
            if not complete and len(data) >= INCOMPLETE_LINE_BYTES:
                complete = data.rfind(b" ") + 1 or len(data)
            data = data[:complete]
        return data, self.offset + skipped + len(data), skipped


class Shipper:
    """Ships the logs of one node's agents. What Postgres does not accept is read again by the next `ship`."""

    def __init__(self) -> None:
        self._tails: dict[UUID, Tail] = {}

    def begin(self, *, agent: UUID, path: Path) -> None:
        """Note that an agent is about to be started and will write to this file."""
        self._tails[agent] = Tail(agent, path, offset=path.stat().st_size if path.exists() else 0)

    def resume(self, *, agent: UUID, path: Path) -> None:
        """Ship what an agent of an earlier supervisor printed after its last row, if that row is found."""
        last = LogPiece.objects.filter(agent=agent).order_by("id").last()
        if last is None or not path.exists():
            return
        size = path.stat().st_size
        data, _, _ = Tail(agent, path, offset=0, end=size).read(limit=settings.FLEET_AGENT_LOG_BYTES)
        _, anchor, rest = _storable(data).rpartition(last.text[-ANCHOR:])
        if anchor and rest:
            LogPiece.objects.bulk_create(
                LogPiece(agent_id=agent, text=rest[start : start + PIECE]) for start in range(0, len(rest), PIECE)
            )

    def finish(self, *, agent: UUID) -> None:
        """Note where a dead agent's log ends, for the next `ship`. Call it before a successor is started."""
        tail = self._tails.get(agent)
        if tail is not None and tail.end is None:
            tail.end = tail.path.stat().st_size if tail.path.exists() else 0

    def ship(self) -> None:
        """Store the new output of all agents. Raises django.db.Error if Postgres does not answer."""
        keep = settings.FLEET_AGENT_LOG_BYTES
        reads = [(tail, *tail.read(limit=keep)) for tail in self._tails.values()]
        pieces: list[tuple[Tail, str]] = []
        for tail, data, _, skipped in reads:
            notice = f"… {skipped:,} bytes left out …\n" if skipped else ""
            text = notice + _storable(data)
            pieces += [(tail, text[start : start + PIECE]) for start in range(0, len(text), PIECE)]
        if pieces:
            stored = LogPiece.objects.bulk_create(LogPiece(agent_id=tail.agent, text=text) for tail, text in pieces)
            for (tail, text), piece in zip(pieces, stored, strict=True):
                tail.rows.append((piece.id, len(text)))
                tail.characters += len(text)
        for tail, _, offset, _ in reads:
            tail.offset = offset
        self._tails = {tail.agent: tail for tail, *_ in reads if tail.end is None}
        for tail in {tail.agent: tail for tail, _ in pieces}.values():
            _delete_oldest(tail, keep=keep)
        self._rotate()

    def _rotate(self) -> None:
        """Rotate the files that have become too large. They have been read completely."""
        for tail in self._tails.values():
            if tail.offset > FILE_BYTES:
                logfiles.rotate(tail.path, keep=OLDER_FILES)
                tail.offset = 0


def _storable(data: bytes) -> str:
    """Decode output for a row: its secrets are redacted, and NUL, which Postgres rejects, is replaced."""
    return redaction.mask_own_secrets(data.decode("utf-8", "replace")).replace("\x00", "�")


def _delete_oldest(tail: Tail, *, keep: int) -> None:
    """Delete the oldest rows of an agent, down to `keep` characters."""
    last = 0
    while tail.characters > keep and len(tail.rows) > 1:
        last, characters = tail.rows.popleft()
        tail.characters -= characters
    if last:
        LogPiece.objects.filter(agent=tail.agent, id__lte=last).delete()


def outdated(*, now: datetime, days: int) -> QuerySet[LogPiece]:
    """The output of agents that ended more than this many days ago."""
    return LogPiece.objects.filter(agent__ended_at__lt=now - timedelta(days=days))
