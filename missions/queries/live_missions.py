"""For `fleet_up`: what happens to the missions that were live when the fleet stopped or crashed."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import QuerySet

from fleet.console import invocation, lines
from fleet.services import announcements
from missions.models import Mission
from missions.queries import mission_json
from missions.states import FINAL_MISSION_STATES, MissionState, SortieState

MAX_MISSIONS = 10  # in the list


def announce() -> Iterator[str]:
    """One line per live mission, the oldest first."""
    live: QuerySet[Mission] = Mission.objects.exclude(state__in=FINAL_MISSION_STATES)
    rows = list(live.defer("plan").order_by("id")[: MAX_MISSIONS + 1])
    counts = mission_json.counts([row.id for row in rows])
    for row in rows[:MAX_MISSIONS]:
        yield f"  {row.ref} {lines.one_line(row.name)}: {_outlook(row, counts.get(row.id, {}))}"
    if len(rows) > MAX_MISSIONS:
        yield f"  More missions are live: {invocation.command('fleet_mission', 'list')}"


def _outlook(row: Mission, counts: dict[str, int]) -> str:
    total = sum(counts.values())
    ended = sum(number for state, number in counts.items() if SortieState(state).final)
    progress = f"{ended:,} of {lines.counted(total, 'sortie')} have ended"
    interrupted = counts.get(SortieState.RUNNING, 0)
    match row.state:
        case MissionState.RUNNING if interrupted:
            return f"continues, {progress}; {lines.counted(interrupted, 'interrupted sortie')} will run again"
        case MissionState.RUNNING:
            return f"continues, {progress}"
        case MissionState.CANCELLING:
            return "is being cancelled"
        case _:
            return (
                f"stays {row.state}, {progress}. Continue it: {invocation.command('fleet_mission', 'resume', row.ref)}"
            )


announcements.register(announce)
