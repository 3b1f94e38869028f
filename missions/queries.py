"""Reading missions: what commands, the admin and the API show. The shapes are documented in docs/commands.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import F, Q, QuerySet

from agents.models import Agent
from fleet import clock, errors, ids, statements
from missions.models import Artifact, Attempt, Mission, Output, Sortie
from missions.states import MissionState, SortieState

STATES = tuple(state.value for state in SortieState)
PAGE = 100  # sorties that are in memory at once, each with its result


def find(text: str) -> Mission:
    """The mission that `msn_…`, the end of its id, or `latest` names; NotFound, or Conflict where several fit."""
    named = Mission.objects.defer("plan").order_by("-id")
    if text == "latest":
        found = list(named[:1])
    elif len(text) >= 4 and not text.startswith(ids.MISSION + "_"):
        recent = Mission.objects.order_by("-id").values_list("id", flat=True)[:1_000]
        found = list(named.filter(id__in=[id for id in recent if ids.encode(ids.MISSION, id).endswith(text)][:2]))
    else:
        found = list(named.filter(id=ids.decode(ids.MISSION, text)))
    if len(found) > 1:
        raise errors.Conflict(f"Several missions end in {text!r}.", hint="Give more of the id.")
    if not found:
        raise errors.NotFound(f"There is no mission {text!r}.", hint="See `manage.py fleet_mission list`.")
    return found[0]


def find_sortie(mission: Mission, text: str) -> Sortie:
    """A sortie of a mission by its key or its id."""
    there = Sortie.objects.filter(mission=mission)
    found = there.filter(key=text).first() if text.isprintable() else None
    if found is None and text.startswith(ids.SORTIE + "_"):
        found = there.filter(id=ids.decode(ids.SORTIE, text)).first()
    if found is None:
        raise errors.NotFound(
            f"{mission.name} has no sortie {text!r}.",
            hint=f"See `manage.py fleet_mission show {mission.ref}`.",
            over_http=f"See GET /api/v1/missions/{mission.ref}/sorties.",
        )
    return found


def keys(sorties: Collection[UUID]) -> dict[UUID, str]:
    """The keys of these sorties, as far as they are kept."""
    return dict(Sortie.objects.filter(id__in=sorties).values_list("id", "key"))


def counts(missions: Iterable[UUID]) -> dict[UUID, dict[str, int]]:
    """How many sorties of each mission are in each state; in one query."""
    counted: dict[UUID, dict[str, int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions", "counts"), {"missions": list(missions)})
        for mission, state, number in cursor.fetchall():
            counted.setdefault(mission, {})[state] = number
    return counted


SUMMARISED = ("name", "objective", "state", "reason", "created_at", "finished_at")  # what a summary reads of a mission


def summary(mission: Mission, counted: dict[str, int] | None = None) -> dict[str, Any]:
    """`{id, name, state, sorties: {total, succeeded, …}, elapsed_s, …}`."""
    by_state = counts([mission.id]).get(mission.id, {}) if counted is None else counted
    return {
        "id": mission.ref,
        "name": mission.name,
        "objective": mission.objective,
        "state": mission.state,
        "reason": mission.reason,
        "sorties": {
            "total": sum(by_state.values()),
            **{state: by_state.get(state, 0) for state in STATES},
        },
        "created_at": _time(mission.created_at),
        "finished_at": _time(mission.finished_at),
        "elapsed_s": round(((mission.finished_at or clock.now()) - mission.created_at).total_seconds(), 3),
    }


def items(
    mission: Mission,
    *,
    states: Collection[str] | None = None,
    after: Sortie | None = None,
    most: int | None = None,
    results: bool = True,
) -> Iterator[dict[str, Any]]:
    """The sorties of a mission in the plan's order, with what each waits for or came to; read page by page, so that a
    mission of any size takes the memory of one page.

    `states`: only those in one of them. `after`: only those behind this one. `most`: so many.
    `results` False leaves their results unread, and null.
    """
    found = Sortie.objects.filter(mission=mission).order_by("turn", "id").values_list("id", flat=True)
    if states is not None:
        found = found.filter(state__in=states)
    if after is not None:
        found = found.filter(Q(turn__gt=after.turn) | Q(turn=after.turn, id__gt=after.id))
    rows = iter(found[:most]) if most and most <= PAGE else found[:most].iterator(chunk_size=PAGE)
    known = cache(staffed)
    while page := list(islice(rows, PAGE)):
        yield from _items(mission, page, results=results, staffed=known)


def item(sortie: Sortie) -> dict[str, Any]:
    """One sortie, as `items` has it. Its mission is read already."""
    (shown,) = _items(sortie.mission, [sortie.id], results=True, staffed=staffed)
    return shown


def _items(
    mission: Mission, page: Sequence[UUID], *, results: bool, staffed: Callable[[], Collection[str]]
) -> Iterator[dict[str, Any]]:
    for sortie in Sortie.objects.raw(statements.read("missions", "items"), {"page": page, "results": results}):
        yield _item(mission, sortie, staffed=staffed)


def notable(mission: Mission, *, total: int, most: int) -> list[dict[str, Any]]:
    """What of a mission fits on a screen: all of one with at most `most` sorties; of a larger one what runs, has failed
    or waits."""
    if total <= most:
        return list(items(mission, results=False))
    shown: list[dict[str, Any]] = []
    for state in (SortieState.RUNNING, SortieState.FAILED, SortieState.WAITING):
        shown += items(mission, states=[state], most=most - len(shown), results=False)
    return shown


def tolerated(mission: Mission) -> int:
    """How many sorties of a mission have failed, and may."""
    return Sortie.objects.filter(mission=mission, state=SortieState.FAILED, allow_failure=True).count()


def last_result(mission: Mission) -> Any:
    """The result of the sortie that comes last in the plan; None where it has none."""
    last = Sortie.objects.filter(mission=mission).order_by("-turn", "-id").first()
    if last is None or last.state != SortieState.SUCCEEDED:
        return None
    return Attempt.objects.filter(sortie=last, number=last.attempt).values_list("result", flat=True).first()


def _item(mission: Mission, row: Any, *, staffed: Callable[[], Collection[str]]) -> dict[str, Any]:
    """A row of items.sql, as people and programs read it."""
    runs = row.state == SortieState.RUNNING
    return {
        "id": row.ref,
        "key": row.key,
        "agent_type": row.agent_type_id,
        "state": row.state,
        "attempt": row.attempt,
        "tries": row.tries,
        "needs": row.needed,
        "waits_for": waits_for(mission, row, row.unfinished, staffed=staffed),
        "ready_at": _time(row.ready_at),
        "started_at": _time(row.started_at),
        "finished_at": _time(row.finished_at),
        "progress": row.progress if runs else None,
        "note": row.note or "" if runs else "",
        "result": json.loads(row.result) if row.result is not None else None,
        "error": row.error or None if not runs else None,
        "tolerated": row.allow_failure and row.state == SortieState.FAILED,
    }


def staffed() -> frozenset[str]:
    """The types that have an agent which takes work, or will in a moment."""
    takes = (Agent.State.SPAWNING, Agent.State.IDLE, Agent.State.BUSY)
    return frozenset(Agent.objects.filter(state__in=takes).values_list("type", flat=True))


def waits_for(
    mission: Mission, sortie: Sortie, unfinished: list[str], *, staffed: Callable[[], Collection[str]]
) -> str:
    """One sentence on why a sortie does not run; empty for one that runs or has ended well. `staffed` is asked for the types
    that have agents, where that matters."""
    if sortie.state in (SortieState.SKIPPED, SortieState.WAITING) and sortie.waits_for:
        when = f" at {_clock(sortie.wake_at)}" if sortie.wake_at and sortie.state == SortieState.WAITING else ""
        return (f"Waits for {sortie.waits_for}{when}." if when else f"It was {sortie.waits_for}.").replace("..", ".")
    if sortie.state == SortieState.CANCELLED and sortie.waits_for:
        return f"It was cancelled: {sortie.waits_for}".rstrip(".") + "."
    if sortie.state not in (SortieState.PENDING, SortieState.READY, SortieState.QUEUED, SortieState.WAITING):
        return ""
    if mission.state in ("paused", "planned"):
        return f"Waits until its mission, which is {mission.state}, is resumed."
    match sortie.state:
        case SortieState.PENDING:
            named = ", ".join(unfinished[:5]) + (f" and {len(unfinished) - 5} more" if len(unfinished) > 5 else "")
            return f"Waits for {named}." if named else "Waits for the control loop, which will free it."
        case SortieState.READY if sortie.concurrency_key:
            return f"Waits for a place under the concurrency key {sortie.concurrency_key!r}."
        case SortieState.READY if mission.at_once:
            return f"Waits for its turn: its mission has at most {mission.at_once} under way at once."
        case SortieState.READY:
            return f"Waits for its turn among the sorties of type {sortie.agent_type_id}, or for the control loop."
        case _ if sortie.agent_type_id not in staffed():
            return f"Waits for an agent of type {sortie.agent_type_id}: none takes work (see how its agents are)."
        case _:
            return f"Waits for a free agent of type {sortie.agent_type_id}."


def progress(mission: Mission) -> dict[str, Any]:
    """`{id, state, fraction, percent, sorties, running}`: the share of its sorties that have ended, those that run
    counted by what they report."""
    counted = counts([mission.id]).get(mission.id, {})
    total = sum(counted.values())
    ended = sum(number for state, number in counted.items() if SortieState(state).final)
    running = (
        list(items(mission, states=[SortieState.RUNNING], most=PAGE, results=False)) if counted.get("running") else []
    )
    done = ended + sum(one["progress"] or 0.0 for one in running)
    fraction = round(done / total, 4) if total else float(MissionState(mission.state).final)
    return {
        "id": mission.ref,
        "state": mission.state,
        "fraction": fraction,
        "percent": round(100 * fraction, 2),
        "sorties": summary(mission, counted)["sorties"],
        "running": running,
    }


def bar(attempt: Attempt) -> dict[str, Any]:
    """`{sortie, key, attempt, state, agent, started_at, finished_at, error}`; its sortie is read already."""
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
    """What an attempt (the last one, unless told) has printed, in order, after the piece with that id."""
    number = sortie.attempt if attempt is None else attempt
    return Output.objects.filter(sortie=sortie, attempt=number, id__gt=after).order_by("id")


def artifacts(mission: Mission) -> QuerySet[Artifact]:
    """The files that accepted attempts of a mission gave out, with their sorties."""
    accepted = Artifact.objects.filter(sortie__mission=mission, sortie__state=SortieState.SUCCEEDED)
    return accepted.filter(attempt=F("sortie__attempt")).select_related("sortie").order_by("sortie__turn", "path", "id")


def artifact(file: Artifact) -> dict[str, Any]:
    """`{id, sortie, path, digest, size}`"""
    return {"id": file.ref, "sortie": file.sortie.key, "path": file.path, "digest": file.digest, "size": file.size}


def _time(value: datetime | None) -> str | None:
    return value.isoformat() if value else None


def _clock(when: datetime) -> str:
    """06:00:00 UTC, with its date unless that is today."""
    when = when.astimezone(UTC)
    today = when.date() == datetime.now(UTC).date()
    return f"{when:%H:%M:%S} UTC" if today else f"{when:%Y-%m-%d %H:%M:%S} UTC"
