"""Sorties: the state of each and the reason, its attempts and its output."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.decorators import display

from fleet.admin.pages import COLOURS, ReadOnlyAdmin, apply_to_rows, between, button
from missions import operations, plan
from missions.admin import rendering, work
from missions.models import Need, Sortie, Workspace
from missions.queries import sortie_json
from missions.states import FINAL_SORTIE_STATES

REPOSITORY = ("Work on the repository", {"fields": ("changes", "conflicts", "diff")})


@admin.register(Sortie)
class SortieAdmin(ReadOnlyAdmin):
    list_display = (
        "key", "coloured_state", "started", "took", "mission_link", "status_column", "agent_type", "ref_column",
    )  # fmt: skip
    list_filter = ("state", "agent_type", "started_at")
    linked_filters = ("mission",)
    list_select_related = ("mission", "agent_type")
    search_fields = ("key",)
    search_help_text = "A key, or an id (srt_…, msn_…, agt_…)"
    id_fields = ("id", "mission_id", "agent_id")
    actions = ("cancel", "retry")
    actions_detail = ("retry_button", "cancel_button")
    retry_button = button(
        "retry", title="Retry", icon="replay", description="It runs again, with a fresh set of tries."
    )
    cancel_button = button(
        "cancel", title="Cancel sortie", icon="cancel", danger=True, description="Its running attempt is stopped."
    )
    fieldsets = (
        (
            None,
            {"fields": ("key", "ref", "mission", "agent_type", "state", "status", "took", "need_table", "attempt_table", "files")},
        ),
        REPOSITORY,
        ("Output of the last attempt", {"fields": ("output_tail",)}),
        ("Task", {"fields": ("spec",), "classes": ("collapse",)}),
        (
            "Counters and times",
            {
                "fields": (
                    "attempt", "tries", "max_tries", "rescues", "priority", "concurrency_key", "agent", "ready_at",
                    "started_at", "finished_at", "lease_until", "wake_at",
                )
            },
        ),
    )  # fmt: skip
    readonly_fields = (
        "changes",
        "conflicts",
        "diff",
        "ref",
        "status",
        "took",
        "need_table",
        "attempt_table",
        "files",
        "output_tail",
        "spec",
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Hide the section on the repository if the mission has no workspace."""
        fieldsets = super().get_fieldsets(request, obj)
        has_workspace = obj is not None and Workspace.objects.filter(mission=obj.mission_id).exists()
        return fieldsets if has_workspace else [fieldset for fieldset in fieldsets if fieldset[0] != REPOSITORY[0]]

    def available_actions(self, row: Sortie) -> Collection[str]:
        if row.state not in FINAL_SORTIE_STATES:
            return {"cancel"}
        return {"retry"} if row.state != "succeeded" else ()

    @admin.display(description="started", ordering="started_at")
    def started(self, sortie: Sortie) -> str:
        return f"{sortie.started_at:%d %b %H:%M:%S}" if sortie.started_at else "–"

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Sorties of one mission in the plan's order; all sorties newest first."""
        return ("turn", "id") if "mission__id__exact" in request.GET else ("-id",)

    def prepare(self, rows: list[Any]) -> None:
        texts = rendering.status_texts(rows)
        for sortie in rows:
            sortie.status_text = texts[sortie.id]

    @admin.display(description="waiting for, or outcome")
    def status(self, sortie: Any) -> str:
        if not hasattr(sortie, "status_text"):
            self.prepare([sortie])
        return sortie.status_text or "–"

    @admin.display(description="waiting for, or outcome")
    def status_column(self, sortie: Any) -> SafeString:
        return rendering.clamped(self.status(sortie))

    @display(description="state", ordering="state", label=COLOURS)  # type: ignore[untyped-decorator]  # Django's own takes no label
    def coloured_state(self, sortie: Sortie) -> str:
        return sortie_json.status(sortie)

    @admin.display(description="took")
    def took(self, sortie: Sortie) -> str:
        return rendering.duration_of_sortie(sortie)

    @admin.display(description="mission", ordering="mission")
    def mission_link(self, sortie: Sortie) -> SafeString:
        return rendering.clamped(rendering.link(sortie.mission, sortie.mission.name))

    @admin.display(description="needs")
    def need_table(self, sortie: Sortie) -> SafeString:
        needs = Need.objects.filter(sortie=sortie).select_related("upstream").order_by("upstream__turn", "upstream")
        return rendering.table(
            ("sortie", "state"),
            ((rendering.link(need.upstream, need.upstream.key), sortie_json.status(need.upstream)) for need in needs),
        )

    @admin.display(description="attempts")
    def attempt_table(self, sortie: Sortie) -> SafeString:
        return rendering.table(
            ("attempt", "state", "took", "exit code", "error"),
            (
                (
                    rendering.link(attempt, f"no. {attempt.number}"),
                    attempt.state,
                    between(attempt.started_at, attempt.finished_at),
                    "–" if attempt.exit_code is None else attempt.exit_code,
                    attempt.error[:1_000],
                )
                for attempt in sortie.attempts.order_by("number").defer("result", "resume")
            ),
        )

    @admin.display(description="artifacts")
    def files(self, sortie: Sortie) -> SafeString:
        files = sortie.artifacts.filter(attempt=sortie.accepted_attempt)
        return rendering.table(("file", "bytes"), ((rendering.download(file), f"{file.size:,}") for file in files))

    @admin.display(description="changes")
    def changes(self, sortie: Sortie) -> SafeString:
        return work.changes(sortie)

    @admin.display(description="conflicts")
    def conflicts(self, sortie: Sortie) -> SafeString:
        return work.conflicts(sortie)

    @admin.display(description="diff")
    def diff(self, sortie: Sortie) -> SafeString:
        return work.diff_of_sortie(sortie)

    @admin.display(description="output")
    def output_tail(self, sortie: Sortie) -> SafeString:
        return rendering.output(sortie, sortie.accepted_attempt)

    @admin.display(description="as in the plan")
    def spec(self, sortie: Sortie) -> SafeString:
        return rendering.table(
            ("key", "value"), sorted((k, str(v)) for k, v in plan.masked_spec(sortie.brief.spec).items() if v)
        )

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, rows: QuerySet[Sortie]) -> Any:
        if page := self.confirmation_page(
            request, rows, title="Cancel sorties", question="Cancel these sorties? Running attempts are stopped."
        ):
            return page
        return apply_to_rows(
            request,
            rows,
            lambda row: operations.cancel_sortie(sortie=row.id, reason=rendering.action_reason(request)),
            "Cancelled",
        )

    @admin.action(description="Retry", permissions=["operate"])
    def retry(self, request: HttpRequest, rows: QuerySet[Sortie]) -> None:
        apply_to_rows(
            request,
            rows,
            lambda row: operations.retry_sortie(sortie=row.id, can_execute=rendering.can_execute(request)),
            "Reopened",
        )
