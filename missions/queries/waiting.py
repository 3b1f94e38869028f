"""Why a sortie waits, in one sentence."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property

from django.db.models import QuerySet

from agents import queries as agents
from missions.models import Mission, Sortie
from missions.states import MissionState, SortieState

MAX_HOLDERS = 100  # the most holders of a concurrency key that are counted
MAX_NAME = 80  # characters of a name in a sentence


class WaitLookups:
    """The data that `waits_for` needs. Each item is read once, and only if needed.

    `visible`: the missions that may be named, in addition to the sortie's own.
    """

    def __init__(self, visible: QuerySet[Mission] | None = None) -> None:
        self._visible = visible
        self._holders: dict[str, list[Sortie]] = {}

    @cached_property
    def served(self) -> frozenset[str]:
        """The types with an agent that takes work."""
        return agents.served_types()

    def holders(self, key: str, *, mission: Mission) -> str:
        """Which sorties hold a concurrency key: ", which 'build' of this mission holds". Empty if none does.

        `mission` is the mission of the sortie that waits for the key.
        """
        if key not in self._holders:
            active = Sortie.objects.filter(concurrency_key=key, state__in=(SortieState.QUEUED, SortieState.RUNNING))
            self._holders[key] = list(
                active.select_related("mission").defer("mission__plan").order_by("started_at", "id")[:MAX_HOLDERS]
            )
        holders = self._holders[key]
        if not holders:
            return ""
        first = max(holders, key=lambda holder: holder.state == SortieState.RUNNING)
        if first.mission_id == mission.id:
            holder = f"{_short(first.key)!r} of this mission"
        elif self._visible is not None and self._visible.filter(id=first.mission_id).exists():
            holder = f"{_short(first.key)!r} of mission {_short(first.mission.name)!r} ({first.mission.ref})"
        else:
            holder = "a sortie of another mission"
        more = len(holders) - 1
        return f", which {holder}{f' and {more} more hold' if more else ' holds'}"


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"


def waits_for(mission: Mission, sortie: Sortie, unfinished: list[str], lookups: WaitLookups) -> str:
    """One sentence on why a sortie does not run; empty for one that runs, has succeeded or has failed."""
    if sortie.state == SortieState.SKIPPED and sortie.waits_for:
        return f"It was {sortie.waits_for}.".replace("..", ".")
    if sortie.state == SortieState.WAITING and sortie.waits_for:
        when = f" at {_clock(sortie.wake_at)}" if sortie.wake_at else ""
        reason, semicolon, error = sortie.waits_for.partition("; ")  # the error may end with a program's output
        return f"Waits for {reason}{when}{semicolon}{error}.".replace("..", ".")
    if sortie.state == SortieState.CANCELLED and sortie.waits_for:
        return f"It was cancelled: {sortie.waits_for}".rstrip(".") + "."
    if sortie.state not in (SortieState.PENDING, SortieState.READY, SortieState.QUEUED, SortieState.WAITING):
        return ""
    if mission.state in (MissionState.PAUSED, MissionState.PLANNED):
        return f"Waits for its mission to be resumed: it is {mission.state}."
    match sortie.state:
        case SortieState.PENDING:
            needs = ", ".join(unfinished[:5]) + (f" and {len(unfinished) - 5} more" if len(unfinished) > 5 else "")
            return f"Waits for {needs}." if needs else "Waits for the control loop to queue it."
        case SortieState.READY | SortieState.QUEUED if sortie.agent_type_id not in lookups.served:
            return f"Waits for an agent of type {sortie.agent_type_id}: none is taking work (check the health of its agents)."
        case SortieState.READY if sortie.blocked_by_id:
            return f"Waits for {sortie.waits_for}."
        case SortieState.READY if sortie.concurrency_key:
            holders = lookups.holders(sortie.concurrency_key, mission=mission)
            return f"Waits for the concurrency key {_short(sortie.concurrency_key)!r}{holders}."
        case SortieState.READY if mission.max_running:
            return f"Waits for its turn: its mission may have at most {mission.max_running} sorties queued or running."
        case SortieState.READY:
            return f"Waits for its turn among the sorties of type {sortie.agent_type_id}, or for the control loop."
        case _:
            return f"Waits for a free agent of type {sortie.agent_type_id}."


def _clock(when: datetime) -> str:
    """The time as 06:00:00 UTC, with the date unless it is today."""
    when = when.astimezone(UTC)
    today = when.date() == datetime.now(UTC).date()
    return f"{when:%H:%M:%S} UTC" if today else f"{when:%Y-%m-%d %H:%M:%S} UTC"
