"""Missions and sorties as the commands, the admin and the API show them. docs/commands.md documents the shapes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce

from fleet import errors, humanise, ids, invocation
from fleet.postgres import clock, statements
from missions.models import Artifact, Attempt, Mission, Output, Sortie
from missions.queries import waiting
from missions.states import MissionState, SortieState

STATES = tuple(state.value for state in SortieState)
PAGE = 100  # sorties in memory at once, each with its result


def find(text: str) -> Mission:
    """The mission with this id (`msn_…`) or end of an id, or `latest`. Raises NotFound; Conflict if several match."""
    missions = Mission.objects.defer("plan").order_by("-id")
    if text == "latest":
        matches = list(missions[:1])
    elif len(text) >= 4 and not text.startswith(ids.MISSION + "_"):
        recent = Mission.objects.order_by("-id").values_list("id", flat=True)[:1_000]
        matches = list(missions.filter(id__in=[id for id in recent if ids.encode(ids.MISSION, id).endswith(text)][:2]))
    else:
        matches = list(missions.filter(id=ids.decode(ids.MISSION, text)))
    if len(matches) > 1:
        raise errors.Conflict(f"Several missions end in {text!r}.", hint="Give more characters of the id.")
    if not matches:
        raise errors.NotFound(
            f"There is no mission {text!r}.", hint=f"See: {invocation.command('fleet_mission', 'list')}"
        )
    return matches[0]


def find_sortie(mission: Mission, text: str) -> Sortie:
    """The sortie of a mission with this key or id."""
    sorties = Sortie.objects.filter(mission=mission)
    sortie = sorties.filter(key=text).first() if text.isprintable() else None
    if sortie is None and text.startswith(ids.SORTIE + "_"):
        sortie = sorties.filter(id=ids.decode(ids.SORTIE, text)).first()
    if sortie is None:
        raise errors.NotFound(
            f"{mission.name} has no sortie {text!r}.",
            hint=f"See: {invocation.command('fleet_mission', 'show', mission.ref)}",
            over_http=f"See GET /api/v1/missions/{mission.ref}/sorties.",
        )
    return sortie


def find_sorties(mission: Mission, text: str) -> list[Sortie]:
    """The sortie with this key or id; for the name of a matrix, all its members in the plan's order."""
    try:
        return [find_sortie(mission, text)]
    except errors.NotFound:
        members = Sortie.objects.filter(mission=mission, key__startswith=f"{text}[").order_by("turn", "id")
        if not text.isprintable() or not (sorties := list(members)):
            raise
        return sorties


def keys(sorties: Collection[UUID]) -> dict[UUID, str]:
    """The keys of these sorties, as far as they still exist."""
    return dict(Sortie.objects.filter(id__in=sorties).values_list("id", "key"))


def counts(missions: Iterable[UUID]) -> dict[UUID, dict[str, int]]:
    """How many sorties of each mission are in each state, in one query."""
    counted: dict[UUID, dict[str, int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.queries", "counts"), {"missions": list(missions)})
        for mission, state, number in cursor.fetchall():
            counted.setdefault(mission, {})[state] = number
    return counted


SUMMARY_FIELDS = (
    "name",
    "objective",
    "state",
    "reason",
    "origin",
    "schedule",
    "created_at",
    "finished_at",
)  # the fields that `summary` reads


def summary(mission: Mission, counted: dict[str, int] | None = None) -> dict[str, Any]:
    """`{id, name, state, sorties: {total, succeeded, …}, elapsed_s, …}`."""
    by_state = counts([mission.id]).get(mission.id, {}) if counted is None else counted
    return {
        "id": mission.ref,
        "name": mission.name,
        "objective": mission.objective,
        "state": mission.state,
        "reason": mission.reason,
        "origin": mission.origin,
        "schedule": ids.encode(ids.SCHEDULE, mission.schedule_id) if mission.schedule_id else None,
        "sorties": {
            "total": sum(by_state.values()),
            **{state: by_state.get(state, 0) for state in STATES},
        },
        "created_at": _time(mission.created_at),
        "finished_at": _time(mission.finished_at),
        "elapsed_s": round(((mission.finished_at or clock.now()) - mission.created_at).total_seconds(), 3),
    }


def sorties_as_json(
    mission: Mission,
    *,
    states: Collection[str] | None = None,
    after: Sortie | None = None,
    limit: int | None = None,
    results: bool = True,
    visible: QuerySet[Mission] | None = None,
) -> Iterator[dict[str, Any]]:
    """The sorties of a mission in the plan's order, as JSON objects. Reads page by page, so memory stays bounded.

    `states`: only sorties in these states. `after`: only those that follow this one. `limit`: at most this many.
    Without `results`, results are not read and are null. `visible`: the missions that the reader may see; only these
    are named as holders of a concurrency key that a sortie waits for.
    """
    selected = Sortie.objects.filter(mission=mission).order_by("turn", "id").values_list("id", flat=True)
    if states is not None:
        selected = selected.filter(state__in=states)
    if after is not None:
        selected = selected.filter(Q(turn__gt=after.turn) | Q(turn=after.turn, id__gt=after.id))
    rows = iter(selected[:limit]) if limit and limit <= PAGE else selected[:limit].iterator(chunk_size=PAGE)
    lookups = waiting.WaitLookups(visible)
    while page := list(islice(rows, PAGE)):
        yield from _page_as_json(mission, page, results=results, lookups=lookups)


def sortie_as_json(sortie: Sortie, *, visible: QuerySet[Mission] | None = None) -> dict[str, Any]:
    """One sortie, as in `sorties_as_json`. Its mission must be loaded."""
    (row,) = _page_as_json(sortie.mission, [sortie.id], results=True, lookups=waiting.WaitLookups(visible))
    return row


def _page_as_json(
    mission: Mission, page: Sequence[UUID], *, results: bool, lookups: waiting.WaitLookups
) -> Iterator[dict[str, Any]]:
    for sortie in Sortie.objects.raw(
        statements.read("missions.queries", "sorties_with_attempts"), {"page": page, "results": results}
    ):
        yield _row_as_json(mission, sortie, lookups)


def notable(
    mission: Mission, *, total: int, limit: int, visible: QuerySet[Mission] | None = None
) -> list[dict[str, Any]]:
    """The sorties to list on a screen: all, if there are at most `limit`; else the running, failed and waiting."""
    if total <= limit:
        return list(sorties_as_json(mission, results=False, visible=visible))
    selected: list[dict[str, Any]] = []
    for state in (SortieState.RUNNING, SortieState.FAILED, SortieState.WAITING):
        selected += sorties_as_json(
            mission, states=[state], limit=limit - len(selected), results=False, visible=visible
        )
    return selected


def tolerated_failures(mission: Mission) -> int:
    """How many failures of a mission's sorties are tolerated (`allow_failure`)."""
    return Sortie.objects.filter(mission=mission, state=SortieState.FAILED, allow_failure=True).count()


def last_result(mission: Mission) -> Any:
    """The result of the last sortie in the plan's order; None if it has none."""
    last = Sortie.objects.filter(mission=mission).order_by("-turn", "-id").first()
    if last is None or last.state != SortieState.SUCCEEDED:
        return None
    return Attempt.objects.filter(sortie=last, number=last.accepted_attempt).values_list("result", flat=True).first()


def _row_as_json(mission: Mission, row: Any, lookups: waiting.WaitLookups) -> dict[str, Any]:
    """A row of missions/queries/sql/sorties_with_attempts.sql as a JSON object."""
    running = row.state == SortieState.RUNNING
    return {
        "id": row.ref,
        "key": row.key,
        "agent_type": row.agent_type_id,
        "state": row.state,
        "status": status(row),
        "attempt": row.attempt,
        "tries": row.tries,
        "needs": row.needed,
        "waits_on": row.waits_on,
        "waits_for": waiting.waits_for(mission, row, row.unfinished, lookups),
        "ready_at": _time(row.ready_at),
        "started_at": _time(row.started_at),
        "finished_at": _time(row.finished_at),
        "wake_at": _time(row.wake_at),
        "changed_at": _time(_changed_at(row)),
        "elapsed_s": _elapsed_s(row),
        "progress": row.progress if running else None,
        "note": row.note or "",
        "result": json.loads(row.result) if row.result is not None else None,
        "error": row.error or None if not running else None,
        "tolerated": row.allow_failure and row.state == SortieState.FAILED,
        "change": json.loads(row.change) if row.change is not None else None,
    }


def status(sortie: Sortie) -> str:
    """The state in words: `retry 2/3 in 4 s` while it waits for a retry; `tolerated` for a failure that is allowed."""
    if sortie.state == SortieState.WAITING and sortie.tries and sortie.wake_at:
        left_s = (sortie.wake_at - clock.now()).total_seconds()
        when = f"in {humanise.duration(left_s)}" if left_s > 0 else "now"
        return f"retry {sortie.tries + 1}/{sortie.max_tries} {when}"
    if sortie.state == SortieState.FAILED and sortie.allow_failure:
        return "tolerated"
    return str(sortie.state)


def _changed_at(row: Any) -> datetime | None:
    """When the sortie entered its state, as far as its timestamps show."""
    running = row.state == SortieState.RUNNING
    times = (row.attempt_started_at,) if running else (row.finished_at, row.attempt_finished_at, row.ready_at)
    return next((time for time in times if time is not None), None)


def _elapsed_s(row: Any) -> float | None:
    """How long the last attempt ran or has been running; None before the first attempt."""
    started: datetime | None = row.attempt_started_at
    if started is None:
        return None
    ended: datetime = row.attempt_finished_at or clock.now()
    return round((ended - started).total_seconds(), 3)


def progress(mission: Mission) -> dict[str, Any]:
    """`{id, state, fraction, percent, sorties, running}`

    `fraction` is the share of sorties that have ended. Running ones count with the progress that they report.
    """
    counted = counts([mission.id]).get(mission.id, {})
    total = sum(counted.values())
    ended = sum(number for state, number in counted.items() if SortieState(state).final)
    running: list[dict[str, Any]] = []
    if counted.get(SortieState.RUNNING):
        running += sorties_as_json(mission, states=[SortieState.RUNNING], limit=PAGE, results=False)
    done = ended + sum(sortie["progress"] or 0.0 for sortie in running)
    fraction = round(done / total, 4) if total else float(MissionState(mission.state).final)
    return {
        "id": mission.ref,
        "state": mission.state,
        "fraction": fraction,
        "percent": round(100 * fraction, 2),
        "sorties": summary(mission, counted)["sorties"],
        "running": running,
    }


def attempt_as_json(attempt: Attempt) -> dict[str, Any]:
    """`{sortie, key, attempt, state, agent, started_at, finished_at, error}`. Its sortie must be loaded."""
    return {
        "sortie": attempt.sortie.ref,
        "key": attempt.sortie.key,
        "attempt": attempt.number,
        "state": attempt.state,
        "agent": ids.encode(ids.AGENT, attempt.agent_id) if attempt.agent_id else None,
        "started_at": _time(attempt.started_at),
        "finished_at": _time(attempt.finished_at),
        "error": attempt.error or None,
    }


def output(*, sortie: Sortie, attempt: int | None = None, after: int = 0) -> QuerySet[Output]:
    """The output of an attempt (by default the accepted one), in order, after the piece with the id `after`."""
    number = sortie.accepted_attempt if attempt is None else attempt
    return Output.objects.filter(sortie=sortie, attempt=number, id__gt=after).order_by("id")


def output_of_mission(
    *, mission: Mission, sorties: Collection[UUID] | None = None, after: int = 0, limit: int
) -> list[dict[str, Any]]:
    """The output of a mission's sorties, of all attempts, in the order in which it was stored.

    At most `limit` pieces with ids above `after`; `sorties`: only of these. A piece is withheld while an older
    transaction is open, so that a reader who continues after the last id misses none.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.queries", "output_of_mission"),
            {
                "mission": mission.id,
                "sorties": None if sorties is None else list(sorties),
                "after": after,
                "limit": limit,
            },
        )
        return [
            {
                "id": id,
                "sortie": ids.encode(ids.SORTIE, sortie),
                "key": key,
                "attempt": attempt,
                "stream": stream,
                "at": at.isoformat(),
                "text": text,
            }
            for id, sortie, key, attempt, stream, at, text in cursor.fetchall()
        ]


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


def _time(value: datetime | None) -> str | None:
    return value.isoformat() if value else None
