"""Missions: how far they are, what they are made of, and the actions on them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html
from django.utils.safestring import SafeString

from fleet.admin.pages import ReadOnlyAdmin, ago, between, button, do
from missions import operations, plan
from missions.admin import parts
from missions.models import FINAL, Mission, Sortie
from missions.queries import reads

MOST_SHOWN = 200


def summed_up(counted: dict[str, int], tolerated: int) -> str:
    """`12 of 40: 9 succeeded, 2 failed, 1 tolerated, 1 running`, or `40 of 40` where all succeeded. `tolerated`: of those that
    failed."""
    done = sum(counted.get(state, 0) for state in FINAL)
    numbers = {
        "succeeded": counted.get("succeeded", 0),
        "failed": counted.get("failed", 0) - tolerated,
        "tolerated": tolerated,
        **{state: counted.get(state, 0) for state in ("skipped", "cancelled", "running")},
    }
    told = ", ".join(f"{number} {what}" for what, number in numbers.items() if number)
    plain = numbers["succeeded"] == sum(numbers.values())
    return f"{done} of {sum(counted.values())}" + ("" if plain else f": {told}")


@admin.register(Mission)
class MissionAdmin(ReadOnlyAdmin):
    list_display = ("name", "coloured_state", "progress", "started", "took", "created_by", "ref")
    list_filter = ("state", "created_at")
    list_select_related = ("created_by",)
    search_fields = ("name", "objective")
    search_help_text = "A name, words of the objective, or an id (msn_…)"
    ordering = ("-id",)
    actions = ("cancel", "pause", "resume", "retry")
    actions_detail = ("pause_button", "resume_button", "retry_button", "cancel_button")
    pause_button = button(
        "pause", title="Pause", icon="pause", description="What runs is left to run; nothing more is started."
    )
    resume_button = button("resume", title="Resume", icon="play_arrow", description="What waits is started again.")
    retry_button = button(
        "retry", title="Retry", icon="replay", description="What ended badly is reopened, and what was skipped for it."
    )
    cancel_button = button(
        "cancel",
        title="Cancel mission",
        icon="cancel",
        danger=True,
        description="What runs is stopped; nothing more starts.",
    )
    fieldsets = (
        (None, {"fields": ("name", "ref", "state", "reason", "progress", "took", "more", "sorties", "files")}),
        (
            "What was asked for",
            {"fields": ("objective", "template", "inputs", "priority", "folder", "stop_on_failure")},
        ),
        ("When and by whom", {"fields": ("created_at", "finished_at", "created_by")}),
        ("The plan as it was given", {"fields": ("text",), "classes": ("collapse",)}),
    )
    readonly_fields = ("ref", "progress", "took", "more", "sorties", "files", "text")

    def sensible(self, row: Mission) -> Collection[str]:
        match row.state:
            case "running":
                return {"pause", "cancel"}
            case "paused" | "planned":
                return {"resume", "cancel"}
            case "failed" | "cancelled":
                return {"retry"}
        return ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Mission]:
        rows: QuerySet[Mission] = super().get_queryset(request)
        return rows.defer("plan", "defaults")

    def prepare(self, rows: list[Any]) -> None:
        missions = [mission.id for mission in rows]
        counted = reads.counts(missions)
        failed = Sortie.objects.filter(mission__in=missions, state="failed", allow_failure=True)
        tolerated = dict(failed.order_by().values_list("mission").annotate(number=Count("id")))
        for mission in rows:
            mission.counted, mission.tolerated = counted.get(mission.id, {}), tolerated.get(mission.id, 0)

    @admin.display(description="sorties ended")
    def progress(self, mission: Any) -> str:
        if not hasattr(mission, "counted"):
            self.prepare([mission])
        return summed_up(mission.counted, mission.tolerated)

    @admin.display(description="started", ordering="created_at")
    def started(self, mission: Mission) -> str:
        return ago(mission.created_at)

    @admin.display(description="took")
    def took(self, mission: Mission) -> str:
        return between(mission.created_at, mission.finished_at)

    @admin.display(description="lists")
    def more(self, mission: Mission) -> SafeString:
        return format_html(
            "{} · {} · {} · {}",
            parts.listing("missions_sortie", "all sorties", mission__id__exact=mission.id),
            parts.listing("missions_attempt", "attempts", q=mission.ref),
            parts.listing("missions_artifact", "artifacts", q=mission.ref),
            parts.listing("fleet_event", "events", q=mission.ref),
        )

    @admin.display(description="sorties")
    def sorties(self, mission: Mission) -> SafeString:
        rows = list(Sortie.objects.filter(mission=mission).order_by("turn", "id")[: MOST_SHOWN + 1])
        stand = parts.standing(rows, mission)
        shown = parts.table(
            ("sortie", "type", "state", "took", ""),
            (
                (
                    parts.link(sortie, sortie.key),
                    sortie.agent_type_id,
                    reads.status(sortie),
                    between(sortie.started_at, sortie.finished_at),
                    stand[sortie.id],
                )
                for sortie in rows[:MOST_SHOWN]
            ),
        )
        if len(rows) <= MOST_SHOWN:
            return shown
        return format_html("{}<p>The first {}; the others are in the list of all sorties.</p>", shown, MOST_SHOWN)

    @admin.display(description="artifacts")
    def files(self, mission: Mission) -> SafeString:
        return parts.table(
            ("file", "size", "from"),
            (
                (parts.download(file), filesizeformat(file.size), parts.link(file.sortie, file.sortie.key))
                for file in reads.artifacts(mission)[:MOST_SHOWN]
            ),
        )

    @admin.display(description="plan")
    def text(self, mission: Mission) -> SafeString:
        return format_html('<pre style="white-space: pre-wrap">{}</pre>', plan.masked(mission.plan)[:100_000])

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, rows: QuerySet[Mission]) -> Any:
        question = "Cancel these missions? What runs is stopped; nothing more starts."
        if page := self.unconfirmed(request, rows, title="Cancel missions", question=question):
            return page
        return do(request, rows, lambda row: operations.cancel(mission=row.id, reason=parts.by(request)), "Cancelled")

    @admin.action(description="Pause", permissions=["operate"])
    def pause(self, request: HttpRequest, rows: QuerySet[Mission]) -> None:
        do(request, rows, lambda row: operations.pause(mission=row.id, reason=parts.by(request)), "Paused")

    @admin.action(description="Resume", permissions=["operate"])
    def resume(self, request: HttpRequest, rows: QuerySet[Mission]) -> None:
        do(request, rows, lambda row: operations.resume(mission=row.id, executes=parts.executes(request)), "Resumed")

    @admin.action(description="Retry what ended badly", permissions=["operate"])
    def retry(self, request: HttpRequest, rows: QuerySet[Mission]) -> None:
        do(request, rows, lambda row: operations.retry(mission=row.id, executes=parts.executes(request)), "Reopened")
