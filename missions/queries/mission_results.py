"""What the sorties of a mission have produced: results, output and artifacts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Coalesce

from fleet import ids
from fleet.postgres import statements
from missions.models import Artifact, Attempt, Mission, Output, Sortie
from missions.states import SortieState


def last_result(mission: Mission) -> Any:
    """The result of the last sortie in the plan's order; None if it has none."""
    last = Sortie.objects.filter(mission=mission).order_by("-turn", "-id").first()
    if last is None or last.state != SortieState.SUCCEEDED:
        return None
    return Attempt.objects.filter(sortie=last, number=last.accepted_attempt).values_list("result", flat=True).first()


def output(*, sortie: Sortie, attempt: int | None = None, after: int = 0) -> QuerySet[Output]:
    """The output of an attempt (by default the accepted one), in order, after the piece with the id `after`."""
    number = sortie.accepted_attempt if attempt is None else attempt
    return Output.objects.filter(sortie=sortie, attempt=number, id__gt=after).order_by("id")


def output_of_mission(
    *, mission: Mission, sorties: Collection[UUID] | None = None, after: int = 0, limit: int, max_bytes: int
) -> tuple[list[dict[str, Any]], bool]:
    """The output of a mission's sorties, of all attempts, in the order in which it was stored; and whether more follows.

    At most `limit` pieces with ids above `after`, the last of which is the first to exceed `max_bytes`. `sorties`: only
    of these. A piece is withheld while an older transaction is open, so that a reader who continues after the last id
    misses none.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.queries", "output_of_mission"),
            {
                "mission": mission.id,
                "sorties": None if sorties is None else list(sorties),
                "after": after,
                "limit": limit,
                "max_bytes": max_bytes,
            },
        )
        rows = cursor.fetchall()
    pieces = [
        {
            "id": id,
            "sortie": ids.encode(ids.SORTIE, sortie),
            "key": key,
            "attempt": attempt,
            "stream": stream,
            "at": at.isoformat(),
            "text": text,
        }
        for id, sortie, key, attempt, stream, at, text, _ in rows
    ]
    return pieces, len(rows) == limit or (bool(rows) and rows[-1][-1] > max_bytes)


def artifacts(mission: Mission) -> QuerySet[Artifact]:
    """The artifacts of a mission's accepted attempts, with their sorties."""
    accepted = Artifact.objects.filter(sortie__mission=mission, sortie__state=SortieState.SUCCEEDED)
    return (
        accepted.filter(attempt=Coalesce("sortie__accepted", "sortie__attempt"))
        .select_related("sortie")
        .order_by("sortie__turn", "path", "id")
    )


def artifact_as_json(file: Artifact) -> dict[str, Any]:
    """`{id, sortie, path, digest, size}`"""
    return {"id": file.ref, "sortie": file.sortie.key, "path": file.path, "digest": file.digest, "size": file.size}
