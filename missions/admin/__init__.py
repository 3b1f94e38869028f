"""The admin pages of missions: read-only views, and actions that call the same operations as the commands."""

from missions.admin.alerts import AlertAdmin
from missions.admin.attempts import ArtifactAdmin, AttemptAdmin
from missions.admin.concurrency_keys import ConcurrencyKeyAdmin
from missions.admin.missions import MissionAdmin
from missions.admin.reservations import ReservationAdmin
from missions.admin.schedules import ScheduleAdmin
from missions.admin.sorties import SortieAdmin
from missions.admin.templates import TemplateAdmin
from missions.admin.workspaces import ChangeAdmin, ConflictAdmin, WorkspaceAdmin

__all__ = [
    "AlertAdmin",
    "ArtifactAdmin",
    "AttemptAdmin",
    "ChangeAdmin",
    "ConcurrencyKeyAdmin",
    "ConflictAdmin",
    "MissionAdmin",
    "ReservationAdmin",
    "ScheduleAdmin",
    "SortieAdmin",
    "TemplateAdmin",
    "WorkspaceAdmin",
]
