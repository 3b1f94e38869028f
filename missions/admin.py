"""Missions in the admin: the truth to read, and actions that call the same operations as the commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from fleet import errors, ids
from fleet.readonly import ReadOnlyAdmin
from missions import operations, queries
from missions.models import Artifact, Attempt, Mission, Sortie

COLOURS = {
    "succeeded": "success", "failed": "danger", "cancelled": "warning", "skipped": "warning", "running": "info",
    "lost": "danger", "waiting": "warning", "paused": "warning", "cancelling": "warning",
}  # fmt: skip


class ReadOnly(ReadOnlyAdmin):
    """Rows with typed ids and a state."""

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        """A typed id (`msn_…`, `srt_…`) finds its row; anything else is looked for as usual."""
        prefix = search_term.strip().partition("_")[0]
        if prefix in (ids.MISSION, ids.SORTIE, ids.AGENT, ids.ARTIFACT):
            try:
                return queryset.filter(id=ids.decode(prefix, search_term)), False
            except errors.Invalid:
                pass
        return super().get_search_results(request, queryset, search_term)

    @display(description="state", ordering="state", label=COLOURS)  # type: ignore[untyped-decorator]
    def coloured_state(self, row: Any) -> str:
        return str(row.state)


def _do(request: HttpRequest, rows: QuerySet[Any], act: Callable[[Any], object], done: str) -> None:
    """Do it to each row; say what was done, and for each refusal why."""
    count = 0
    for row in rows:
        try:
            act(row)
            count += 1
        except errors.FleetError as fault:
            messages.error(request, f"{row}: {fault}")
    if count:
        messages.success(request, f"{done}: {count}.")


@admin.register(Mission)
class MissionAdmin(ReadOnly):
    list_display = ("name", "ref", "coloured_state", "progress", "priority", "created_at", "finished_at", "created_by")
    list_filter = ("state", "created_at")
    list_select_related = ("created_by",)
    search_fields = ("name", "objective")
    actions = ("cancel", "pause", "resume", "retry")
    readonly_fields = ("ref", "sorties_in_order", "files")
    fields = (
        "name", "ref", "state", "reason", "objective", "priority", "inputs", "folder", "created_by", "created_at",
        "finished_at", "sorties_in_order", "files", "plan",
    )  # fmt: skip

    @display(description="sorties")  # type: ignore[untyped-decorator]
    def progress(self, mission: Mission) -> str:
        counted = queries.counts([mission.id]).get(mission.id, {})
        done = sum(counted.get(state, 0) for state in ("succeeded", "failed", "skipped", "cancelled"))
        return f"{done}/{sum(counted.values())}"

    @display(description="sorties")  # type: ignore[untyped-decorator]
    def sorties_in_order(self, mission: Mission) -> SafeString:
        return format_html(
            "<table>{}</table>",
            format_html_join(
                "",
                '<tr><td><a href="{}">{}</a></td><td>{}</td><td>{}</td><td>{}</td></tr>',
                (
                    (
                        reverse("admin:missions_sortie_change", args=[ids.decode(ids.SORTIE, item["id"])]),
                        item["key"],
                        item["agent_type"],
                        item["state"],
                        item["error"] or item["waits_for"] or item["note"],
                    )
                    for item in queries.items(mission)[:500]
                ),
            ),
        )

    @display(description="artifacts")  # type: ignore[untyped-decorator]
    def files(self, mission: Mission) -> SafeString:
        return format_html_join(
            "",
            '<div><a href="{}">{}</a> ({} bytes, from {})</div>',
            (
                (reverse("artifact", args=[file.ref]), file.path, f"{file.size:,}", file.sortie.key)
                for file in queries.artifacts(mission)
            ),
        )

    @admin.action(description="Cancel", permissions=["view"])
    def cancel(self, request: HttpRequest, rows: QuerySet[Mission]) -> None:
        _do(request, rows, lambda row: operations.cancel(mission=row.id, reason="from the admin"), "Cancelled")

    @admin.action(description="Pause", permissions=["view"])
    def pause(self, request: HttpRequest, rows: QuerySet[Mission]) -> None:
        _do(request, rows, lambda row: operations.pause(mission=row.id, reason="from the admin"), "Paused")

    @admin.action(description="Resume", permissions=["view"])
    def resume(self, request: HttpRequest, rows: QuerySet[Mission]) -> None:
        _do(request, rows, lambda row: operations.resume(mission=row.id), "Resumed")

    @admin.action(description="Retry what ended badly", permissions=["view"])
    def retry(self, request: HttpRequest, rows: QuerySet[Mission]) -> None:
        _do(request, rows, lambda row: operations.retry(mission=row.id), "Reopened")


@admin.register(Sortie)
class SortieAdmin(ReadOnly):
    list_display = ("key", "ref", "mission", "agent_type", "coloured_state", "attempt", "started_at", "finished_at")
    list_filter = ("state", "agent_type")
    list_select_related = ("mission",)
    search_fields = ("key",)
    actions = ("cancel", "retry")
    readonly_fields = ("ref", "why_not_running", "flights", "printed")
    fields = (
        "key", "ref", "mission", "agent_type", "state", "why_not_running", "attempt", "tries", "max_tries", "rescues",
        "priority", "concurrency_key", "ready_at", "started_at", "finished_at", "lease_until", "flights", "printed",
    )  # fmt: skip

    @display(description="waits for")  # type: ignore[untyped-decorator]
    def why_not_running(self, sortie: Sortie) -> str:
        unfinished = sortie.needs.exclude(upstream__state__in=["succeeded", "failed", "skipped", "cancelled"])
        return (
            queries.waits_for(sortie.mission, sortie, list(unfinished.values_list("upstream__key", flat=True))) or "–"
        )

    @display(description="attempts")  # type: ignore[untyped-decorator]
    def flights(self, sortie: Sortie) -> SafeString:
        return format_html_join(
            "",
            '<div><a href="{}">{}</a> {} {}</div>',
            (
                (reverse("admin:missions_attempt_change", args=[one.id]), one.number, one.state, one.error)
                for one in sortie.attempts.order_by("number")
            ),
        )

    @display(description="output of the last attempt (its end)")  # type: ignore[untyped-decorator]
    def printed(self, sortie: Sortie) -> SafeString:
        pieces = [piece.text for piece in queries.output(sortie=sortie).order_by("-id")[:50]]
        return format_html("<pre>{}</pre>", "".join(reversed(pieces))[-10_000:])

    @admin.action(description="Cancel", permissions=["view"])
    def cancel(self, request: HttpRequest, rows: QuerySet[Sortie]) -> None:
        _do(request, rows, lambda row: operations.cancel_sortie(sortie=row.id), "Cancelled")

    @admin.action(description="Retry", permissions=["view"])
    def retry(self, request: HttpRequest, rows: QuerySet[Sortie]) -> None:
        _do(request, rows, lambda row: operations.retry_sortie(sortie=row.id), "Reopened")


@admin.register(Attempt)
class AttemptAdmin(ReadOnly):
    list_display = ("__str__", "sortie", "coloured_state", "started_at", "finished_at", "exit_code", "cpu_s")
    list_filter = ("state",)
    list_select_related = ("sortie",)
    search_fields = ("sortie__key", "error")


@admin.register(Artifact)
class ArtifactAdmin(ReadOnly):
    list_display = ("path", "sortie", "size", "digest", "created_at")
    list_select_related = ("sortie",)
    search_fields = ("path", "digest")
