"""Reservations: the files that sorties have reserved or are waiting for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display

from fleet.admin.pages import COLOURS, apply_to_rows, button
from missions.admin.workspaces import SortieChildAdmin
from missions.models import Reservation
from missions.operations import reserving
from missions.queries import reservations


@admin.register(Reservation)
class ReservationAdmin(SortieChildAdmin):
    list_display = ("pattern", "coloured_state", "kind", "sortie_link", "mission_link", "branch", "until")
    list_filter = ("shared", "created_at")
    list_select_related = ("sortie__mission",)
    search_fields = ("pattern", "sortie__key")
    search_help_text = "A pattern, a sortie's key, or an id (rsv_…, srt_…, msn_…)"
    id_fields = ("id", "sortie_id", "sortie__mission_id")
    actions = ("release",)
    actions_detail = ("release_button",)
    release_button = button(
        "release",
        title="Release",
        icon="lock_open",
        danger=True,
        description="Other sorties may then change these files, even while this one is still running.",
    )
    fieldsets = (
        (None, {"fields": ("pattern", "kind", "coloured_state", "sortie_link", "mission_link", "requested_by")}),
        ("Where", {"fields": ("repository", "branch")}),
        ("When", {"fields": ("created_at", "until", "released_at", "ref")}),
    )
    readonly_fields = ("kind", "coloured_state", "sortie_link", "mission_link", "requested_by", "ref")

    @display(description="state", label=COLOURS)  # type: ignore[untyped-decorator]  # Django's own takes no label
    def coloured_state(self, row: Reservation) -> str:
        return reservations.state(row, now=timezone.now())

    @admin.display(description="kind", ordering="shared")
    def kind(self, row: Reservation) -> str:
        return "reads" if row.shared else "touches"

    @admin.display(description="requested by")
    def requested_by(self, row: Reservation) -> str:
        return "the plan" if row.attempt is None else f"attempt {row.attempt}"

    def available_actions(self, row: Any) -> Collection[str]:
        state = reservations.state(row, now=timezone.now())
        return ("release",) if state in ("in force", "waiting") else ()

    @admin.action(description="Release", permissions=["operate"])
    def release(self, request: HttpRequest, rows: QuerySet[Reservation]) -> Any:
        if page := self.confirmation_page(
            request,
            rows,
            title="Release reservations",
            question="Release these reservations? Other sorties may then change the files while these are still running.",
        ):
            return page
        return apply_to_rows(request, rows, lambda row: reserving.release(reservation=row.id), "Released")
