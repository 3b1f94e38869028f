"""Active alerts. Past alerts are events: alert.raised and alert.cleared."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from agents.models import AgentType
from fleet.admin.pages import ReadOnlyAdmin, ago, parse_id
from missions.admin import rendering
from missions.control.alerts import RULES
from missions.models import Alert, Mission


class RuleFilter(admin.SimpleListFilter):
    """Filters by rule. It lists every rule, even those without an active alert."""

    title = parameter_name = "rule"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(rule, rule.replace("_", " ")) for rule in RULES]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(rule=self.value()) if self.value() else queryset


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    list_display = ("message", "rule", "about", "raised", "last_confirmed")
    list_filter = (RuleFilter, "raised_at")
    search_fields = ("subject", "message")
    search_help_text = "Words of the message, or the subject: an agent type, a mission's id (msn_…) or a service"
    id_fields = ()
    ordering = ("raised_at", "id")
    fields = ("message", "rule", "about", "raised", "raised_at", "last_confirmed", "seen_at")
    readonly_fields = ("about", "raised", "last_confirmed")

    def prepare(self, rows: list[Any]) -> None:
        ids = [parse_id(alert.subject) for alert in rows if alert.rule == "mission_stalled"]
        missions = Mission.objects.filter(id__in=[id for id in ids if id is not None]).only("id", "name")
        subjects: dict[str, Any] = {mission.ref: mission for mission in missions}
        subjects |= {agent_type.name: agent_type for agent_type in AgentType.objects.all()}
        for alert in rows:
            alert.subject_row = subjects.get(alert.subject)

    @admin.display(description="about", ordering="subject")
    def about(self, alert: Any) -> SafeString | str:
        if not hasattr(alert, "subject_row"):
            self.prepare([alert])
        row = alert.subject_row
        return rendering.link(row, getattr(row, "name", "")) if row else str(alert.subject)

    @admin.display(description="raised", ordering="raised_at")
    def raised(self, alert: Alert) -> str:
        return ago(alert.raised_at)

    @admin.display(description="last confirmed", ordering="seen_at")
    def last_confirmed(self, alert: Alert) -> str:
        return ago(alert.seen_at)
