"""Workspaces, changes and conflicts: a mission's repository, what its attempts changed, and where changes conflict."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from fleet import ids
from fleet.admin.pages import COLOURS, ReadOnlyAdmin
from missions.admin import rendering, work
from missions.models import Change, Conflict, Workspace
from missions.queries import workspaces


@admin.register(Workspace)
class WorkspaceAdmin(ReadOnlyAdmin):
    list_display = ("branch", "repository", "base", "mission_link", "coloured_state")
    list_filter = ("mission__state",)
    list_select_related = ("mission",)
    search_fields = ("repository", "branch", "mission__name")
    search_help_text = "A repository, a branch, a mission's name, or an id (msn_…)"
    id_fields = ("mission_id",)
    ordering = ("-mission_id",)
    fieldsets = (
        (
            None,
            {"fields": ("branch", "repository", "base", "base_commit", "mission_link", "list_links", "discarded_at")},
        ),
        ("Commands", {"fields": ("setup", "verify", "conflicts", "reworks")}),
        ("Diff", {"fields": ("diff",), "classes": ("collapse",)}),
    )
    readonly_fields = ("mission_link", "list_links", "diff")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Workspace]:
        rows: QuerySet[Workspace] = super().get_queryset(request)
        return rows.defer("mission__plan", "mission__defaults")

    @display(description="mission's state", label=COLOURS)  # type: ignore[untyped-decorator]  # Django's own takes no label
    def coloured_state(self, workspace: Workspace) -> str:
        return "discarded" if workspace.discarded_at else workspace.mission.state

    @admin.display(description="mission")
    def mission_link(self, workspace: Workspace) -> SafeString:
        return rendering.clamped(rendering.link(workspace.mission, workspace.mission.name))

    @admin.display(description="lists")
    def list_links(self, workspace: Workspace) -> SafeString:
        return work.work_lists(workspace.mission.ref)

    @admin.display(description="diff")
    def diff(self, workspace: Workspace) -> SafeString:
        return work.diff_of_mission(workspace.mission)


class SortieChildAdmin(ReadOnlyAdmin):
    """Base class of the pages of rows that belong to a sortie."""

    list_select_related = ("sortie",)
    search_fields: tuple[str, ...] = ("sortie__key",)
    search_help_text = "A sortie's key, or an id (srt_…, msn_…)"
    id_fields: tuple[str, ...] = ("sortie_id", "sortie__mission_id")
    ordering = ("-id",)

    @admin.display(description="sortie")
    def sortie_link(self, row: Any) -> SafeString:
        return rendering.clamped(rendering.link(row.sortie, row.sortie.key))

    @admin.display(description="mission")
    def mission_link(self, row: Any) -> SafeString:
        return rendering.link(row.sortie.mission, row.sortie.mission.name)


@admin.register(Change)
class ChangeAdmin(SortieChildAdmin):
    list_display = ("name", "coloured_state", "sortie_link", "attempt", "size", "created_at")
    list_filter = ("state", "created_at")
    fieldsets = (
        (None, {"fields": ("sortie_link", "mission_link", "attempt", "state", "size", "no_change", "created_at")}),
        ("Commits", {"fields": ("base", "commit", "onto", "landed")}),
        ("Files", {"fields": ("paths",), "classes": ("collapse",)}),
        ("Diff", {"fields": ("diff",)}),
    )
    readonly_fields = ("sortie_link", "mission_link", "size", "paths", "diff")

    @admin.display(description="commit")
    def name(self, change: Change) -> str:
        return change.commit[:12]

    @admin.display(description="files")
    def size(self, change: Change) -> str:
        return work.size(change)

    @admin.display(description="files")
    def paths(self, change: Change) -> SafeString:
        more = change.number_of_files - len(change.files)
        text = "\n".join([*change.files, *([f"… and {more:,} more"] if more > 0 else [])])
        return format_html('<pre style="white-space: pre-wrap; overflow-wrap: anywhere">{}</pre>', text or "–")

    @admin.display(description="diff")
    def diff(self, change: Change) -> SafeString:
        return work.diff_of_change(change)


@admin.register(Conflict)
class ConflictAdmin(SortieChildAdmin):
    list_display = ("name", "coloured_outcome", "sortie_link", "other_sorties", "file_list", "created_at")
    list_filter = ("outcome", "kind", "created_at")
    id_fields = ("id", "sortie_id", "sortie__mission_id")
    search_help_text = "A sortie's key, or an id (cfl_…, srt_…, msn_…)"
    fieldsets = (
        (None, {"fields": ("sortie_link", "mission_link", "attempt", "kind", "coloured_outcome", "by", "resolve")}),
        ("Conflict", {"fields": ("other_sorties", "file_list", "messages", "onto")}),
        ("When", {"fields": ("created_at", "closed_at", "ref")}),
    )
    readonly_fields = (
        "sortie_link",
        "mission_link",
        "coloured_outcome",
        "resolve",
        "other_sorties",
        "file_list",
        "messages",
        "ref",
    )

    @admin.display(description="conflict", ordering="kind")
    def name(self, conflict: Conflict) -> str:
        return conflict.kind

    @display(description="outcome", ordering="outcome", label=COLOURS)  # type: ignore[untyped-decorator]  # as above
    def coloured_outcome(self, conflict: Conflict) -> str:
        return workspaces.conflict_status(conflict)

    @admin.display(description="with")
    def other_sorties(self, conflict: Conflict) -> str:
        return ", ".join(conflict.others) or "–"

    @admin.display(description="in")
    def file_list(self, conflict: Conflict) -> SafeString:
        return rendering.clamped(work.abbreviated(conflict.files))

    @admin.display(description="messages")
    def messages(self, conflict: Conflict) -> SafeString:
        return format_html('<pre style="white-space: pre-wrap; overflow-wrap: anywhere">{}</pre>', conflict.text or "–")

    @admin.display(description="how to resolve it")
    def resolve(self, conflict: Conflict) -> str:
        if not workspaces.waits_for_person(conflict):
            return "–"
        return workspaces.resolve_command(conflict.sortie.mission.ref, conflict.sortie.key)

    @admin.display(description="ID", ordering="pk")
    def ref(self, conflict: Conflict) -> str:
        return ids.encode(ids.CONFLICT, conflict.id)
