"""The combined output of several attempts (of an agent, a matrix or a mission), in the order in which it was stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet

from fleet import ids
from fleet.postgres import statements
from missions.models import Attempt, Sortie
from missions.states import FINAL_SORTIE_STATES

PAGE = 200  # pieces in memory at once, each of at most 64 KiB

Piece = dict[str, Any]


class Transcript:
    """The output of the attempts in a queryset, including attempts that match it later.

    `limit`: each read adds at most this many new attempts, the newest ones.
    """

    def __init__(self, attempts: QuerySet[Attempt], *, limit: int | None = None) -> None:
        self._attempts = attempts
        self._limit = limit
        self._last_attempt = 0
        self._read: dict[tuple[UUID, int], int] = {}  # the last piece read of each attempt that may print more

    def read(self) -> Iterator[Piece]:
        """The pieces since the last read: `{mission, sortie, key, attempt, stream, at, text}`."""
        newer = self._attempts.filter(id__gt=self._last_attempt).order_by("-id").values_list("id", "sortie", "number")
        for id, sortie, number in newer[: self._limit]:
            self._last_attempt = max(self._last_attempt, id)
            self._read[sortie, number] = 0
        # Queried before the output is read, so that an attempt that ends during the read is read once more.
        running = _running(self._read)
        yield from self._new_pieces()
        self._read = {attempt: piece for attempt, piece in self._read.items() if attempt in running}

    def _new_pieces(self) -> Iterator[Piece]:
        """Read one query page by page through a server-side cursor, so that each piece is sorted and sent once."""
        with connection.chunked_cursor() as cursor:
            cursor.execute(
                statements.read("missions.queries", "output_of_attempts"),
                {
                    "sorties": [sortie for sortie, _ in self._read],
                    "attempts": [number for _, number in self._read],
                    "after": list(self._read.values()),
                },
            )
            while rows := cursor.fetchmany(PAGE):
                for piece, mission, sortie, key, number, stream, at, text in rows:
                    self._read[sortie, number] = piece
                    yield {
                        "mission": ids.encode(ids.MISSION, mission),
                        "sortie": ids.encode(ids.SORTIE, sortie),
                        "key": key,
                        "attempt": number,
                        "stream": stream,
                        "at": at.isoformat(),
                        "text": text,
                    }


class SortieTranscript(Transcript):
    """The output of one attempt of a sortie; without `attempt`, of the accepted one and all later ones."""

    def __init__(self, *, sortie: Sortie, attempt: int | None) -> None:
        self._sortie = sortie.id
        self._is_one_attempt = attempt is not None
        numbers = Q(number=attempt) if attempt else Q(number=sortie.accepted_attempt) | Q(number__gt=sortie.attempt)
        super().__init__(Attempt.objects.filter(numbers, sortie=sortie))

    def ended(self) -> bool:
        """Whether all output is stored: the sortie has ended, or that attempt. Call it before the last `read`."""
        if Sortie.objects.filter(id=self._sortie, state__in=FINAL_SORTIE_STATES).exists():
            return True
        return self._is_one_attempt and self._attempts.exclude(state=Attempt.State.RUNNING).exists()


def _running(attempts: Iterable[tuple[UUID, int]]) -> set[tuple[UUID, int]]:
    """The attempts that are still running."""
    candidates = set(attempts)
    running = Attempt.objects.filter(sortie__in=[sortie for sortie, _ in candidates], state=Attempt.State.RUNNING)
    return candidates & set(running.values_list("sortie", "number"))
