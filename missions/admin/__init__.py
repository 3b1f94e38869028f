"""The admin pages of missions: read-only views, and actions that call the same operations as the commands."""

from missions.admin.alerts import AlertAdmin
from missions.admin.attempts import ArtifactAdmin, AttemptAdmin
from missions.admin.missions import MissionAdmin
from missions.admin.sorties import SortieAdmin
from missions.admin.templates import TemplateAdmin

__all__ = ["AlertAdmin", "ArtifactAdmin", "AttemptAdmin", "MissionAdmin", "SortieAdmin", "TemplateAdmin"]
