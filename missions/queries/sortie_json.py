"""Sorties and attempts as the commands, the admin and the API show them. docs/commands.md documents the shapes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from fleet import humanise, ids
from fleet.postgres import clock, statements
from missions.models import Attempt, Mission, Sortie
from missions.queries import waiting
from missions.states import SortieState

PAGE = 100  # sorties in memory at once
FEW = 25  # the same in the web process, if each may have a result of FLEET_RESULT_BYTES
MAX_PAGE_BYTES = 2_000_000  # of results and needs: parsed, a result can need 100 times as much memory as its text


def of_mission(
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
    lookups = waiting.WaitLookups(visible)
    for row in _rows(mission, states=states, after=after, limit=limit, results=results, page=PAGE):
        yield _row_as_json(mission, row, lookups)


def page_of_mission(
    mission: Mission,
    *,
    states: Collection[str] | None = None,
    after: Sortie | None = None,
    limit: int,
    results: bool = True,
    visible: QuerySet[Mission] | None = None,
) -> tuple[list[dict[str, Any]], bool]:
    """One page of `of_mission`, and whether more sorties follow. It has at least one sortie, if there is any, and
    ends early if its results and needs would have more than MAX_PAGE_BYTES."""
    items: list[dict[str, Any]] = []
    lookups, size = waiting.WaitLookups(visible), 0
    page = FEW if results else PAGE
    for row in _rows(mission, states=states, after=after, limit=limit + 1, results=results, page=page):
        size += len(row.result or "") + sum(map(len, row.needed))
        if len(items) == limit or (items and size > MAX_PAGE_BYTES):
            return items, True
        items.append(_row_as_json(mission, row, lookups))
    return items, False


def of_sortie(sortie: Sortie, *, visible: QuerySet[Mission] | None = None) -> dict[str, Any]:
    """One sortie, as in `of_mission`. Its mission must be loaded."""
    (row,) = _rows_of([sortie.id], results=True)
    return _row_as_json(sortie.mission, row, waiting.WaitLookups(visible))


def _rows(
    mission: Mission,
    *,
    states: Collection[str] | None,
    after: Sortie | None,
    limit: int | None,
    results: bool,
    page: int,
) -> Iterator[Any]:
    """The rows of `of_mission`, read `page` at a time."""
    selected = Sortie.objects.filter(mission=mission).order_by("turn", "id").values_list("id", flat=True)
    if states is not None:
        selected = selected.filter(state__in=states)
    if after is not None:
        selected = selected.filter(Q(turn__gt=after.turn) | Q(turn=after.turn, id__gt=after.id))
    sortie_ids = iter(selected[:limit]) if limit and limit <= PAGE else selected[:limit].iterator(chunk_size=PAGE)
    while ids_of_page := list(islice(sortie_ids, page)):
        yield from _rows_of(ids_of_page, results=results)


def _rows_of(page: Sequence[UUID], *, results: bool) -> Iterator[Any]:
    sql = statements.read("missions.queries", "sorties_with_attempts")
    yield from Sortie.objects.raw(sql, {"page": page, "results": results})


def notable(
    mission: Mission, *, total: int, limit: int, visible: QuerySet[Mission] | None = None
) -> list[dict[str, Any]]:
    """The sorties to list on a screen: all, if there are at most `limit`; else the running, failed and waiting."""
    if total <= limit:
        return list(of_mission(mission, results=False, visible=visible))
    selected: list[dict[str, Any]] = []
    for state in (SortieState.RUNNING, SortieState.FAILED, SortieState.WAITING):
        selected += of_mission(mission, states=[state], limit=limit - len(selected), results=False, visible=visible)
    return selected


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


def of_attempt(attempt: Attempt) -> dict[str, Any]:
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


def _time(value: datetime | None) -> str | None:
    return value.isoformat() if value else None
