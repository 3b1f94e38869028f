"""The tables of missions.

Rows change state only as `missions/states.py` allows, mostly through the statements in `missions/**/sql`.
"""

from missions.models.counters import Alert, Counter, CounterMark
from missions.models.missions import (
    Artifact,
    Attempt,
    Brief,
    ConcurrencyKey,
    Mission,
    Need,
    Output,
    Sortie,
    Template,
    WaitsOn,
)
from missions.models.schedules import CatchUp, Overlap, Schedule, Tick
from missions.models.workspaces import Change, Conflict, Lane, Patch, Reservation, SavedWork, VerifiedTree, Workspace

__all__ = [
    "Alert",
    "Artifact",
    "Attempt",
    "Brief",
    "CatchUp",
    "Change",
    "ConcurrencyKey",
    "Conflict",
    "Counter",
    "CounterMark",
    "Lane",
    "Mission",
    "Need",
    "Output",
    "Overlap",
    "Patch",
    "Reservation",
    "SavedWork",
    "Schedule",
    "Sortie",
    "Template",
    "Tick",
    "VerifiedTree",
    "WaitsOn",
    "Workspace",
]
