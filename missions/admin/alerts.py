"""Alerts that are raised now. Those of the past are events: alert.raised and alert.cleared."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from agents.models import AgentType
from fleet.admin.pages import ReadOnlyAdmin, ago, identified
from missions.admin import parts
from missions.control.alerts import RULES
from missions.models import Alert, Mission


class Rule(admin.SimpleListFilter):
    """By rule: all that there are, so that the list is the same whatever is raised."""

    title = parameter_name = "rule"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(rule, rule.replace("_", " ")) for rule in RULES]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(rule=self.value()) if self.value() else queryset


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    list_display = ("message", "rule", "about", "began", "seen")
    list_filter = (Rule, "raised_at")
    search_fields = ("subject", "message")
    search_help_text = "Words of the message, or what it is about: an agent type, a mission's id (msn_…), a service"
    id_fields = ()
    ordering = ("raised_at", "id")
    fields = ("message", "rule", "about", "began", "raised_at", "seen", "seen_at")
    readonly_fields = ("about", "began", "seen")

    def prepare(self, rows: list[Any]) -> None:
        named = [identified(alert.subject) for alert in rows if alert.rule == "mission_stalled"]
        missions = [mission for mission in named if mission is not None]
        found: dict[str, Any] = {one.ref: one for one in Mission.objects.filter(id__in=missions).only("id", "name")}
        found |= {one.name: one for one in AgentType.objects.all()}
        for alert in rows:
            alert.what = found.get(alert.subject)

    @admin.display(description="about", ordering="subject")
    def about(self, alert: Any) -> SafeString | str:
        if not hasattr(alert, "what"):
            self.prepare([alert])
        return parts.link(alert.what, getattr(alert.what, "name", "")) if alert.what else str(alert.subject)

    @admin.display(description="raised", ordering="raised_at")
    def began(self, alert: Alert) -> str:
        return ago(alert.raised_at)

    @admin.display(description="last seen to be so", ordering="seen_at")
    def seen(self, alert: Alert) -> str:
        return ago(alert.seen_at)
