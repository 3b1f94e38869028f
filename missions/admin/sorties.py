"""Sorties: where each stands and why, its attempts and what it printed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.decorators import display

from fleet.admin.pages import COLOURS, ReadOnlyAdmin, between, button, do
from missions import operations, plan
from missions.admin import parts
from missions.models import FINAL, Need, Sortie
from missions.queries import reads


@admin.register(Sortie)
class SortieAdmin(ReadOnlyAdmin):
    list_display = ("key", "coloured_state", "of_mission", "stands_in_brief", "agent_type", "started", "took", "ref")
    list_filter = ("state", "agent_type", "started_at")
    list_select_related = ("mission", "agent_type")
    search_fields = ("key",)
    search_help_text = "A key, or an id (srt_…, msn_…, agt_…)"
    id_fields = ("id", "mission_id", "agent_id")
    actions = ("cancel", "retry")
    actions_detail = ("retry_button", "cancel_button")
    retry_button = button("retry", title="Retry", icon="replay", description="It is reopened, with all its tries.")
    cancel_button = button(
        "cancel", title="Cancel sortie", icon="cancel", danger=True, description="What it runs is stopped."
    )
    fieldsets = (
        (
            None,
            {"fields": ("key", "ref", "mission", "agent_type", "state", "stands", "took", "needed", "flights", "files")},
        ),
        ("Output of the last attempt", {"fields": ("printed",)}),
        ("What it is to do", {"fields": ("spec",), "classes": ("collapse",)}),
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
    readonly_fields = ("ref", "stands", "took", "needed", "flights", "files", "printed", "spec")

    def sensible(self, row: Sortie) -> Collection[str]:
        if row.state not in FINAL:
            return {"cancel"}
        return {"retry"} if row.state != "succeeded" else ()

    @admin.display(description="started", ordering="started_at")
    def started(self, sortie: Sortie) -> str:
        return f"{sortie.started_at:%d %b %H:%M:%S}" if sortie.started_at else "–"

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Of one mission in the plan's order; of all the newest first."""
        return ("turn", "id") if "mission__id__exact" in request.GET else ("-id",)

    def prepare(self, rows: list[Any]) -> None:
        stand = parts.standing(rows)
        for sortie in rows:
            sortie.standing = stand[sortie.id]

    @admin.display(description="waits for, or came to")
    def stands(self, sortie: Any) -> str:
        if not hasattr(sortie, "standing"):
            self.prepare([sortie])
        return sortie.standing or "–"

    @admin.display(description="waits for, or came to")
    def stands_in_brief(self, sortie: Any) -> SafeString:
        return parts.clamped(self.stands(sortie))

    @display(description="state", ordering="state", label=COLOURS)  # type: ignore[untyped-decorator]  # Django's own knows no labels
    def coloured_state(self, sortie: Sortie) -> str:
        return reads.status(sortie)

    @admin.display(description="took")
    def took(self, sortie: Sortie) -> str:
        return between(sortie.started_at, sortie.finished_at)

    @admin.display(description="mission", ordering="mission")
    def of_mission(self, sortie: Sortie) -> SafeString:
        return parts.clamped(parts.link(sortie.mission, sortie.mission.name))

    @admin.display(description="needs")
    def needed(self, sortie: Sortie) -> SafeString:
        needs = Need.objects.filter(sortie=sortie).select_related("upstream").order_by("upstream__turn", "upstream")
        return parts.table(
            ("sortie", "state"),
            ((parts.link(need.upstream, need.upstream.key), reads.status(need.upstream)) for need in needs),
        )

    @admin.display(description="attempts")
    def flights(self, sortie: Sortie) -> SafeString:
        return parts.table(
            ("attempt", "state", "took", "exit code", "error"),
            (
                (
                    parts.link(flight, f"no. {flight.number}"),
                    flight.state,
                    between(flight.started_at, flight.finished_at),
                    "–" if flight.exit_code is None else flight.exit_code,
                    flight.error[:1_000],
                )
                for flight in sortie.attempts.order_by("number").defer("result")
            ),
        )

    @admin.display(description="artifacts")
    def files(self, sortie: Sortie) -> SafeString:
        files = sortie.artifacts.filter(attempt=sortie.attempt)
        return parts.table(("file", "bytes"), ((parts.download(file), f"{file.size:,}") for file in files))

    @admin.display(description="output")
    def printed(self, sortie: Sortie) -> SafeString:
        return parts.printed(sortie, sortie.attempt)

    @admin.display(description="its part of the plan")
    def spec(self, sortie: Sortie) -> SafeString:
        return parts.table(
            ("key", "value"), sorted((k, str(v)) for k, v in plan.masked_spec(sortie.brief.spec).items() if v)
        )

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, rows: QuerySet[Sortie]) -> Any:
        if page := self.unconfirmed(
            request, rows, title="Cancel sorties", question="Cancel these? What runs is stopped."
        ):
            return page
        return do(
            request, rows, lambda row: operations.cancel_sortie(sortie=row.id, reason=parts.by(request)), "Cancelled"
        )

    @admin.action(description="Retry", permissions=["operate"])
    def retry(self, request: HttpRequest, rows: QuerySet[Sortie]) -> None:
        do(
            request,
            rows,
            lambda row: operations.retry_sortie(sortie=row.id, executes=parts.executes(request)),
            "Reopened",
        )
