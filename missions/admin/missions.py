"""Missions: their progress, their sorties and files, and the actions on them."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from fleet import ids
from fleet.admin.pages import ReadOnlyAdmin, ago, apply_to_rows, between, button
from missions import operations
from missions.admin import rendering, work
from missions.models import Mission, Sortie, Workspace
from missions.queries import mission_json, mission_results, sortie_json
from missions.states import FINAL_SORTIE_STATES

MAX_ROWS = 200


def progress_text(counts: dict[str, int], tolerated: int) -> str:
    """`12 of 40: 9 succeeded, 2 failed, 1 tolerated, 1 running`, or `40 of 40` if all succeeded.

    `tolerated` is the number of failed sorties with `allow_failure`.
    """
    ended = sum(counts.get(state, 0) for state in FINAL_SORTIE_STATES)
    numbers = {
        "succeeded": counts.get("succeeded", 0),
        "failed": counts.get("failed", 0) - tolerated,
        "tolerated": tolerated,
        **{state: counts.get(state, 0) for state in ("skipped", "cancelled", "running")},
    }
    details = ", ".join(f"{number} {label}" for label, number in numbers.items() if number)
    all_succeeded = numbers["succeeded"] == sum(numbers.values())
    return f"{ended} of {sum(counts.values())}" + ("" if all_succeeded else f": {details}")


def tolerated_by_mission(missions: Collection[UUID]) -> dict[UUID, int]:
    """How many failed sorties with `allow_failure` each mission has, without missions that have none."""
    failed = Sortie.objects.filter(mission__in=missions, state="failed", allow_failure=True)
    return dict(failed.order_by().values_list("mission").annotate(number=Count("id")))


REPOSITORY = ("Work on the repository", {"fields": ("branch", "repository", "work_lists", "diff")})


@admin.register(Mission)
class MissionAdmin(ReadOnlyAdmin):
    list_display = ("name", "coloured_state", "progress", "started", "took", "created_by", "ref_column")
    list_filter = ("state", "created_at")
    list_select_related = ("created_by",)
    search_fields = ("name", "objective")
    search_help_text = "A name, words of the objective, or an id (msn_…, sch_…)"
    id_fields = ("id", "schedule_id")
    ordering = ("-id",)
    actions = ("cancel", "pause", "resume", "retry")
    actions_detail = ("pause_button", "resume_button", "retry_button", "cancel_button")
    pause_button = button(
        "pause", title="Pause", icon="pause", description="Running sorties continue; no more sorties start."
    )
    resume_button = button("resume", title="Resume", icon="play_arrow", description="Waiting sorties start again.")
    retry_button = button(
        "retry", title="Retry", icon="replay", description="Failed, cancelled and skipped sorties run again."
    )
    cancel_button = button(
        "cancel",
        title="Cancel mission",
        icon="cancel",
        danger=True,
        description="Running sorties are stopped; no more sorties start.",
    )
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "name",
                    "ref",
                    "state",
                    "reason",
                    "origin_links",
                    "progress",
                    "took",
                    "list_links",
                    "sorties",
                    "files",
                )
            },
        ),
        REPOSITORY,
        (
            "Launch parameters",
            {"fields": ("objective", "schedule", "template", "inputs", "priority", "folder", "stop_on_failure")},
        ),
        ("Created and finished", {"fields": ("created_at", "finished_at", "created_by")}),
        ("The plan as launched", {"fields": ("text",), "classes": ("collapse",)}),
    )
    readonly_fields = (
        "branch",
        "repository",
        "work_lists",
        "diff",
        "ref",
        "origin_links",
        "progress",
        "took",
        "list_links",
        "sorties",
        "files",
        "text",
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Hide the section on the repository if the mission has no workspace."""
        fieldsets = super().get_fieldsets(request, obj)
        has_workspace = obj is not None and Workspace.objects.filter(mission=obj.id).exists()
        return fieldsets if has_workspace else [fieldset for fieldset in fieldsets if fieldset[0] != REPOSITORY[0]]

    def available_actions(self, row: Mission) -> Collection[str]:
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
        counts, tolerated = mission_json.counts(missions), tolerated_by_mission(missions)
        for mission in rows:
            mission.counts, mission.tolerated = counts.get(mission.id, {}), tolerated.get(mission.id, 0)

    @admin.display(description="sorties ended")
    def progress(self, mission: Any) -> str:
        if not hasattr(mission, "counts"):
            self.prepare([mission])
        return progress_text(mission.counts, mission.tolerated)

    @admin.display(description="started", ordering="created_at")
    def started(self, mission: Mission) -> str:
        return ago(mission.created_at)

    @admin.display(description="took")
    def took(self, mission: Mission) -> str:
        return between(mission.created_at, mission.finished_at)

    @admin.display(description="origin")
    def origin_links(self, mission: Mission) -> SafeString | str:
        """Link the mission and the checkpoint that it was forked from.

        The links are searches, so a removed object gives an empty list rather than a 404.
        """
        pages = {ids.MISSION: "missions_mission", ids.CHECKPOINT: "checkpoints_checkpoint"}
        parts = re.split(rf"\b(({'|'.join(pages)})_[0-7][0-9a-z]{{25}})\b", mission.origin)
        texts, refs, kinds = parts[::3], parts[1::3], parts[2::3]
        links = [rendering.list_link(pages[kind], ref, q=ref) for ref, kind in zip(refs, kinds, strict=True)]
        return format_html_join("", "{}{}", zip(texts, [*links, ""], strict=True)) or "–"

    @admin.display(description="lists")
    def list_links(self, mission: Mission) -> SafeString:
        return format_html(
            "{} · {} · {} · {} · {}",
            rendering.list_link("missions_sortie", "all sorties", mission__id__exact=mission.id),
            rendering.list_link("missions_attempt", "attempts", q=mission.ref),
            rendering.list_link("missions_artifact", "artifacts", q=mission.ref),
            rendering.list_link("checkpoints_checkpoint", "checkpoints", q=mission.ref),
            rendering.list_link("fleet_event", "events", q=mission.ref),
        )

    @admin.display(description="sorties")
    def sorties(self, mission: Mission) -> SafeString:
        rows = list(Sortie.objects.filter(mission=mission).order_by("turn", "id")[: MAX_ROWS + 1])
        statuses = rendering.status_texts(rows, mission)
        table = rendering.table(
            ("sortie", "type", "state", "took", ""),
            (
                (
                    rendering.link(sortie, sortie.key),
                    sortie.agent_type_id,
                    sortie_json.status(sortie),
                    rendering.duration_of_sortie(sortie),
                    statuses[sortie.id],
                )
                for sortie in rows[:MAX_ROWS]
            ),
        )
        if len(rows) <= MAX_ROWS:
            return table
        return format_html("{}<p>The first {} are shown; “all sorties” above lists the rest.</p>", table, MAX_ROWS)

    @admin.display(description="branch")
    def branch(self, mission: Mission) -> SafeString:
        return rendering.link(mission.workspace, mission.workspace.branch)

    @admin.display(description="repository")
    def repository(self, mission: Mission) -> str:
        workspace = mission.workspace
        return f"{workspace.repository}, from {workspace.base} ({workspace.base_commit[:12]})"

    @admin.display(description="lists")
    def work_lists(self, mission: Mission) -> SafeString:
        return work.work_lists(mission.ref)

    @admin.display(description="diff")
    def diff(self, mission: Mission) -> SafeString:
        return work.diff_of_mission(mission)

    @admin.display(description="artifacts")
    def files(self, mission: Mission) -> SafeString:
        return rendering.table(
            ("file", "size", "from"),
            (
                (rendering.download(file), filesizeformat(file.size), rendering.link(file.sortie, file.sortie.key))
                for file in mission_results.artifacts(mission)[:MAX_ROWS]
            ),
        )

    @admin.display(description="plan")
    def text(self, mission: Mission) -> SafeString:
        return rendering.plan_text(mission.plan)

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, rows: QuerySet[Mission]) -> Any:
        question = "Cancel these missions? Running sorties are stopped; no more sorties start."
        if page := self.confirmation_page(request, rows, title="Cancel missions", question=question):
            return page
        return apply_to_rows(
            request,
            rows,
            lambda row: operations.cancel(mission=row.id, reason=rendering.action_reason(request)),
            "Cancelled",
        )

    @admin.action(description="Pause", permissions=["operate"])
    def pause(self, request: HttpRequest, rows: QuerySet[Mission]) -> None:
        apply_to_rows(
            request,
            rows,
            lambda row: operations.pause(mission=row.id, reason=rendering.action_reason(request)),
            "Paused",
        )

    @admin.action(description="Resume", permissions=["operate"])
    def resume(self, request: HttpRequest, rows: QuerySet[Mission]) -> None:
        apply_to_rows(
            request,
            rows,
            lambda row: operations.resume(mission=row.id, can_execute=rendering.can_execute(request)),
            "Resumed",
        )

    @admin.action(description="Retry failed, cancelled and skipped sorties", permissions=["operate"])
    def retry(self, request: HttpRequest, rows: QuerySet[Mission]) -> None:
        apply_to_rows(
            request,
            rows,
            lambda row: operations.retry(mission=row.id, can_execute=rendering.can_execute(request)),
            "Reopened",
        )
