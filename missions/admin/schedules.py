"""Schedules: their next times, their last ticks, and the actions on them."""

from __future__ import annotations

from collections.abc import Collection

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from fleet.admin.pages import COLOURS, ReadOnlyAdmin, apply_to_rows, button
from fleet.postgres import clock
from missions import cron
from missions.admin import rendering
from missions.models import Schedule
from missions.operations import schedules as operations
from missions.queries import schedules

TICKS = 50


@admin.register(Schedule)
class ScheduleAdmin(ReadOnlyAdmin):
    list_display = ("name", "coloured_state", "cron", "timezone", "next_time", "owned_by", "runs", "skips", "failures")
    list_filter = ("paused", "overlap", "catch_up")
    list_select_related = ("owner", "team")
    search_fields = ("name", "owner__username")
    search_help_text = "A name, a user, or an id (sch_…)"
    ordering = ("name", "id")
    actions = ("pause", "resume", "run")
    actions_detail = ("run_button", "pause_button", "resume_button")
    run_button = button(
        "run", title="Run now", icon="play_circle", description="Launches a mission now. The schedule does not change."
    )
    pause_button = button(
        "pause", title="Pause", icon="pause", description="Nothing is launched until the schedule is resumed."
    )
    resume_button = button(
        "resume", title="Resume", icon="play_arrow", description="Times missed during the pause are not caught up."
    )
    fieldsets = (
        (None, {"fields": ("name", "ref", "coloured_state", "reason", "cron", "explanation", "timezone", "upcoming")}),
        ("Policies", {"fields": ("overlap", "catch_up", "deadline_s")}),
        ("What it launches", {"fields": ("owned_by", "team", "template", "params", "folder", "missions")}),
        ("History", {"fields": ("runs", "skips", "failures", "failures_in_a_row", "last_ticks")}),
        ("When", {"fields": ("created_at", "changed_at")}),
        ("The plan", {"fields": ("text",), "classes": ("collapse",)}),
    )
    readonly_fields = ("ref", "coloured_state", "owned_by", "explanation", "upcoming", "missions", "last_ticks", "text")

    def available_actions(self, row: Schedule) -> Collection[str]:
        return ("resume", "run") if row.paused else ("pause", "run")

    @display(description="state", label=COLOURS)  # type: ignore[untyped-decorator]  # Django's own takes no label
    def coloured_state(self, row: Schedule) -> str:
        return "paused" if row.paused else "failing" if row.failures_in_a_row else "active"

    @admin.display(description="next", ordering="next_at")
    def next_time(self, row: Schedule) -> str:
        return f"{cron.local(row.next_at, row.timezone):%Y-%m-%d %H:%M %Z}" if row.next_at else "–"

    @admin.display(description="owner", ordering="owner__username")
    def owned_by(self, row: Schedule) -> str:
        return str(row.owner or ("the host's operator" if row.operator else "a deleted user"))

    @admin.display(description="in words")
    def explanation(self, row: Schedule) -> str:
        return cron.explanation(row.cron)

    @admin.display(description="next times")
    def upcoming(self, row: Schedule) -> SafeString | str:
        """The next five times in the schedule's time zone. For a paused schedule: as if it were resumed now."""
        times = schedules.upcoming(cron_text=row.cron, timezone=row.timezone, after=clock.now())
        return format_html_join(SafeString("<br>"), "{}", ((f"{at:%a %Y-%m-%d %H:%M %Z}",) for at in times)) or "–"

    @admin.display(description="missions")
    def missions(self, row: Schedule) -> SafeString:
        return rendering.list_link("missions_mission", "all missions", q=row.ref)

    @admin.display(description="last ticks")
    def last_ticks(self, row: Schedule) -> SafeString:
        ticks = schedules.ticks(row).select_related("mission").defer("mission__plan")[:TICKS]
        return rendering.table(
            ("time", "outcome", "mission", "missed before", ""),
            (
                (
                    f"{cron.local(tick.at, row.timezone):%Y-%m-%d %H:%M:%S %Z}",
                    tick.outcome,
                    rendering.link(tick.mission, tick.mission.ref) if tick.mission else "–",
                    tick.missed or "",
                    tick.reason,
                )
                for tick in ticks
            ),
        )

    @admin.display(description="plan")
    def text(self, row: Schedule) -> SafeString:
        return rendering.plan_text(row.plan)

    @admin.action(description="Pause", permissions=["operate"])
    def pause(self, request: HttpRequest, rows: QuerySet[Schedule]) -> None:
        apply_to_rows(
            request,
            rows,
            lambda row: operations.pause(schedule=row.id, reason=rendering.action_reason(request)),
            "Paused",
        )

    @admin.action(description="Resume", permissions=["operate"])
    def resume(self, request: HttpRequest, rows: QuerySet[Schedule]) -> None:
        apply_to_rows(
            request,
            rows,
            lambda row: operations.resume(schedule=row.id, can_execute=rendering.can_execute(request)),
            "Resumed",
        )

    @admin.action(description="Run now", permissions=["operate"])
    def run(self, request: HttpRequest, rows: QuerySet[Schedule]) -> None:
        apply_to_rows(
            request,
            rows,
            lambda row: operations.run_now(schedule=row.id, can_execute=rendering.can_execute(request)),
            "Requested",
        )
