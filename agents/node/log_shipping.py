"""What agents' own processes print: their node reads it from their log files and puts it into rows, for all hosts to read.

An agent writes to its file directly, after what its predecessors in its place wrote there; so each has a beginning, and
once it is dead an end, in the file. Kept are the last FLEET_AGENT_LOG_BYTES of each agent in rows, and on disk the file
with two older ones, each at most FILE_BYTES and what is printed between two looks.

No secret goes into a row: the fleet's own credentials are masked wherever they stand, and in every URL whatever stands
where a password does.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet

from agents.models import LogPiece
from fleet.services import logfiles

FILE_BYTES = 10_000_000
OLDER_FILES = 2
PIECE = 64 * 1024  # characters in a row
RECOGNISED = 2_000  # characters of a piece by which its place in the file is found again
UNENDED = 64 * 1024  # bytes of a line for whose end we wait
SHORTEST_SECRET = 6  # characters; what is shorter (a user's own password, say) would be found in innocent words
MASK = "*****"
IN_URL = re.compile(r"(\w[\w+.-]*://[^\s:/@]*):[^\s/]+@")


def path(*, type: str, place: int, node: str) -> Path:
    """The file to which a node's agents in that place write, one after another. (Nodes may share a folder.)"""
    return Path(settings.FLEET_HOME.logs / f"agent-{type}-{place}@{node.replace('/', '_')}.log")


@dataclass(slots=True, eq=False)
class Tail:
    """How far one agent's log has been read, and what of it is in rows."""

    agent: UUID
    path: Path
    offset: int
    end: int | None = None  # where it stops, once the agent is dead
    rows: deque[tuple[int, int]] = field(default_factory=deque)  # ids and characters
    characters: int = 0

    def read(self, *, most: int) -> tuple[bytes, int, int]:
        """What is new, where that ends in the file, and how many bytes before it are passed over because it is too
        much. Lines that are still being written come later, so that no secret in them is cut in two."""
        try:
            with open(self.path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < self.offset:  # somebody else emptied it
                    self.offset = 0
                    self.end = None if self.end is None else min(self.end, size)
                until = size if self.end is None else self.end
                start = max(self.offset, until - most)
                file.seek(start)
                data = file.read(until - start)
        except FileNotFoundError:
            return b"", self.offset, 0
        passed_over = start - self.offset
        if passed_over:
            _, space, rest = data.partition(b"\n")
            passed_over, data = (passed_over + len(data) - len(rest), rest) if space else (passed_over, data)
        if self.end is None:
            whole = data.rfind(b"\n") + 1
            if not whole and len(data) >= UNENDED:
                whole = data.rfind(b" ") + 1 or len(data)
            data = data[:whole]
        return data, self.offset + passed_over + len(data), passed_over


class Shipper:
    """Of one node's agents. What Postgres does not take is read again at the next `ship`."""

    def __init__(self) -> None:
        self._tails: dict[UUID, Tail] = {}
        self._masked = masking()

    def begin(self, *, agent: UUID, path: Path) -> None:
        """An agent is about to be started, and to write to that file."""
        self._tails[agent] = Tail(agent, path, offset=path.stat().st_size if path.exists() else 0)

    def resume(self, *, agent: UUID, path: Path) -> None:
        """An agent that an earlier node of this host had died with it, or after it: take what that one did not, which
        is what stands in the file behind the last piece. Nothing where that is not found."""
        last = LogPiece.objects.filter(agent=agent).order_by("id").last()
        if last is None or not path.exists():
            return
        size = path.stat().st_size
        data, _, _ = Tail(agent, path, offset=0, end=size).read(most=settings.FLEET_AGENT_LOG_BYTES)
        _, found, rest = self._text(data).rpartition(last.text[-RECOGNISED:])
        if found and rest:
            LogPiece.objects.bulk_create(
                LogPiece(agent_id=agent, text=rest[start : start + PIECE]) for start in range(0, len(rest), PIECE)
            )

    def finish(self, *, agent: UUID) -> None:
        """It is dead, and its log ends here; the next `ship` takes the rest. Call it before a successor is started."""
        tail = self._tails.get(agent)
        if tail is not None and tail.end is None:
            tail.end = tail.path.stat().st_size if tail.path.exists() else 0

    def ship(self) -> None:
        """Put into rows what is new, of all agents at once; django.db.Error where Postgres does not answer."""
        keep = settings.FLEET_AGENT_LOG_BYTES
        read = [(tail, *tail.read(most=keep)) for tail in self._tails.values()]
        pieces: list[tuple[Tail, str]] = []
        for tail, data, _, passed_over in read:
            said = f"… {passed_over:,} bytes left out …\n" if passed_over else ""
            text = said + self._text(data)
            pieces += [(tail, text[start : start + PIECE]) for start in range(0, len(text), PIECE)]
        if pieces:
            made = LogPiece.objects.bulk_create(LogPiece(agent_id=tail.agent, text=text) for tail, text in pieces)
            for (tail, text), piece in zip(pieces, made, strict=True):
                tail.rows.append((piece.id, len(text)))
                tail.characters += len(text)
        for tail, _, offset, _ in read:
            tail.offset = offset
        self._tails = {tail.agent: tail for tail, *_ in read if tail.end is None}
        for tail in {tail.agent: tail for tail, _ in pieces}.values():
            _forget(tail, keep=keep)
        self._bound()

    def _text(self, data: bytes) -> str:
        """As it may be in a row."""
        return self._masked(data.decode("utf-8", "replace")).replace("\x00", "�")

    def _bound(self) -> None:
        """Put aside the files that have become too large; all of them has been read."""
        for tail in self._tails.values():
            if tail.offset > FILE_BYTES:
                logfiles.put_aside(tail.path, kept=OLDER_FILES)
                tail.offset = 0


def _forget(tail: Tail, *, keep: int) -> None:
    """Remove the oldest rows of an agent that has more than may be kept."""
    last = 0
    while tail.characters > keep and len(tail.rows) > 1:
        last, characters = tail.rows.popleft()
        tail.characters -= characters
    if last:
        LogPiece.objects.filter(agent=tail.agent, id__lte=last).delete()


def outdated(*, now: datetime, days: int) -> QuerySet[LogPiece]:
    """What agents printed that ended more than so many days ago."""
    return LogPiece.objects.filter(agent__ended_at__lt=now - timedelta(days=days))


def masking() -> Callable[[str], str]:
    """What takes the fleet's secrets out of a text."""
    known = "|".join(re.escape(secret) for secret in sorted(_secrets(), key=len, reverse=True))
    secret = re.compile(known)
    return lambda text: IN_URL.sub(rf"\1:{MASK}@", secret.sub(MASK, text) if known else text)


def _secrets() -> set[str]:
    own = settings.FLEET_CREDENTIALS
    where = settings.FLEET_ENDPOINTS
    found = {getattr(own, one.name) for one in fields(own)} | {settings.SECRET_KEY, where.postgres.password}
    found |= {unquote(urlsplit(where.redis_url).password or "")}
    found |= {quote(secret, safe="") for secret in found}
    return {secret for secret in found if len(secret) >= SHORTEST_SECRET}
