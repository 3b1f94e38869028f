"""Reading missions: what commands, the admin and the API show. The shapes are documented in docs/commands.md."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from fleet import errors, ids
from missions.models import Artifact, Attempt, Mission, Need, Output, Sortie
from missions.states import SortieState


def find(text: str) -> Mission:
    """The mission that `msn_…`, the end of its id, or `latest` names; NotFound, or Conflict where several fit."""
    if text == "latest":
        found = list(Mission.objects.order_by("-id")[:1])
    elif len(text) >= 4 and not text.startswith(ids.MISSION + "_"):
        found = [mission for mission in Mission.objects.order_by("-id")[:1_000] if mission.ref.endswith(text)][:2]
    else:
        found = list(Mission.objects.filter(id=ids.decode(ids.MISSION, text)))
    if len(found) > 1:
        raise errors.Conflict(f"Several missions end in {text!r}.", hint="Give more of the id.")
    if not found:
        raise errors.NotFound(f"There is no mission {text!r}.", hint="See `manage.py fleet_mission list`.")
    return found[0]


def find_sortie(mission: Mission, text: str) -> Sortie:
    """A sortie of a mission by its key or its id."""
    wanted = Q(id=ids.decode(ids.SORTIE, text)) if text.startswith(ids.SORTIE + "_") else Q(key=text)
    found = Sortie.objects.filter(wanted, mission=mission).first()
    if found is None:
        raise errors.NotFound(f"{mission.name} has no sortie {text!r}.", hint="See `manage.py fleet_mission show`.")
    return found


def counts(missions: Iterable[UUID]) -> dict[UUID, dict[str, int]]:
    """How many sorties of each mission are in each state; in one query."""
    counted: dict[UUID, dict[str, int]] = {}
    rows = Sortie.objects.filter(mission__in=list(missions)).order_by().values_list("mission", "state")
    for mission, state, number in rows.annotate(number=Count("id")):
        counted.setdefault(mission, {})[state] = number
    return counted


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
            **{state.value: by_state.get(state.value, 0) for state in SortieState},
        },
        "created_at": _time(mission.created_at),
        "finished_at": _time(mission.finished_at),
        "elapsed_s": round(((mission.finished_at or timezone.now()) - mission.created_at).total_seconds(), 3),
    }


def items(mission: Mission) -> list[dict[str, Any]]:
    """Each sortie of a mission, in the plan's order, with what it waits for or came to."""
    sorties = list(Sortie.objects.filter(mission=mission).order_by("turn", "id"))
    keys = {sortie.id: sortie.key for sortie in sorties}
    needs: dict[UUID, list[str]] = {}
    for sortie, upstream in Need.objects.filter(sortie__mission=mission).values_list("sortie", "upstream"):
        needs.setdefault(sortie, []).append(keys[upstream])
    states = {sortie.key: sortie.state for sortie in sorties}
    attempts = {
        (attempt.sortie_id, attempt.number): attempt for attempt in Attempt.objects.filter(sortie__mission=mission)
    }
    return [
        _item(mission, sortie, needs.get(sortie.id, []), states, attempts.get((sortie.id, sortie.attempt)))
        for sortie in sorties
    ]


def _item(
    mission: Mission, sortie: Sortie, needs: list[str], states: dict[str, str], attempt: Attempt | None
) -> dict[str, Any]:
    return {
        "id": sortie.ref,
        "key": sortie.key,
        "agent_type": sortie.agent_type_id,
        "state": sortie.state,
        "attempt": sortie.attempt,
        "tries": sortie.tries,
        "needs": needs,
        "waits_for": waits_for(mission, sortie, [need for need in needs if not SortieState(states[need]).final]),
        "ready_at": _time(sortie.ready_at),
        "started_at": _time(sortie.started_at),
        "finished_at": _time(sortie.finished_at),
        "progress": attempt.progress if attempt and sortie.state == SortieState.RUNNING else None,
        "note": attempt.note if attempt and sortie.state == SortieState.RUNNING else "",
        "result": attempt.result if attempt and attempt.state == Attempt.State.SUCCEEDED else None,
        "error": attempt.error if attempt and attempt.error else None,
    }


def waits_for(mission: Mission, sortie: Sortie, unfinished: list[str]) -> str:
    """One sentence on why a sortie does not run; empty for one that runs or has ended well."""
    if sortie.state in (SortieState.SKIPPED, SortieState.WAITING) and sortie.waits_for:
        when = f" at {sortie.wake_at:%H:%M:%S} UTC" if sortie.wake_at and sortie.state == SortieState.WAITING else ""
        return (f"Waits for {sortie.waits_for}{when}." if when else f"It was {sortie.waits_for}.").replace("..", ".")
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
        case SortieState.READY:
            return "Waits for the control loop to admit it."
        case _:
            return f"Waits for a free agent of type {sortie.agent_type_id}."


def output(*, sortie: Sortie, attempt: int | None = None, after: int = 0) -> QuerySet[Output]:
    """What an attempt (the last one, unless told) has printed, in order, after the piece with that id."""
    number = sortie.attempt if attempt is None else attempt
    return Output.objects.filter(sortie=sortie, attempt=number, id__gt=after).order_by("id")


def artifacts(mission: Mission) -> list[Artifact]:
    """The files that accepted attempts of a mission gave out."""
    rows = Artifact.objects.filter(sortie__mission=mission, sortie__state=SortieState.SUCCEEDED)
    return [
        one
        for one in rows.select_related("sortie").order_by("sortie__turn", "path")
        if one.attempt == one.sortie.attempt
    ]


def _time(value: datetime | None) -> str | None:
    return value.isoformat() if value else None
