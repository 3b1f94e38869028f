"""Attempts and artifacts: the outcome of each attempt, its output, and the files that it produced."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.safestring import SafeString

from fleet.admin.pages import ReadOnlyAdmin, between
from missions.admin import rendering
from missions.models import Artifact, Attempt


@admin.register(Attempt)
class AttemptAdmin(ReadOnlyAdmin):
    list_display = ("name", "coloured_state", "first_line", "took", "exit_code", "sortie_link")
    list_filter = ("state",)
    list_select_related = ("sortie",)
    search_fields = ("sortie__key", "error")
    search_help_text = "A sortie's key, words of the error, or an id (srt_…, msn_…, agt_…)"
    id_fields = ("sortie_id", "sortie__mission_id", "agent_id")
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": ("sortie_link", "number", "state", "error", "took", "exit_code", "cpu", "memory", "agent")}),
        ("Output", {"fields": ("output_tail",)}),
        ("Result", {"fields": ("result", "resume")}),
        ("Times", {"fields": ("started_at", "finished_at", "progress", "note")}),
    )
    readonly_fields = ("sortie_link", "took", "cpu", "memory", "output_tail")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Attempt]:
        rows: QuerySet[Attempt] = super().get_queryset(request)
        return rows.defer("result", "resume")

    @admin.display(description="attempt", ordering="id")
    def name(self, attempt: Attempt) -> str:
        return f"{attempt.sortie.key} no. {attempt.number}"

    @admin.display(description="error")
    def first_line(self, attempt: Attempt) -> str:
        return attempt.error.strip().partition("\n")[0][:200] or "–"

    @admin.display(description="took")
    def took(self, attempt: Attempt) -> str:
        return between(attempt.started_at, attempt.finished_at)

    @admin.display(description="sortie")
    def sortie_link(self, attempt: Attempt) -> SafeString:
        return rendering.link(attempt.sortie, str(attempt.sortie))

    @admin.display(description="CPU time")
    def cpu(self, attempt: Attempt) -> str:
        return "–" if attempt.cpu_s is None else f"{attempt.cpu_s:.2f} s"

    @admin.display(description="peak memory")
    def memory(self, attempt: Attempt) -> str:
        return "–" if attempt.max_rss_bytes is None else filesizeformat(attempt.max_rss_bytes)

    @admin.display(description="output")
    def output_tail(self, attempt: Attempt) -> SafeString:
        return rendering.output(attempt.sortie, attempt.number)


@admin.register(Artifact)
class ArtifactAdmin(ReadOnlyAdmin):
    list_display = ("path", "file", "bytes", "media_type", "sortie_link", "created_at", "ref_column")
    list_select_related = ("sortie",)
    search_fields = ("path", "digest")
    search_help_text = "A path, a digest, or an id (art_…, srt_…, msn_…)"
    id_fields = ("id", "sortie_id", "sortie__mission_id")
    ordering = ("-id",)
    fields = ("path", "ref", "file", "bytes", "digest", "media_type", "sortie_link", "attempt", "created_at")
    readonly_fields = ("ref", "file", "bytes", "sortie_link")

    @admin.display(description="download")
    def file(self, artifact: Artifact) -> SafeString:
        return rendering.download(artifact)

    @admin.display(description="size", ordering="size")
    def bytes(self, artifact: Artifact) -> str:
        return filesizeformat(artifact.size)

    @admin.display(description="sortie")
    def sortie_link(self, artifact: Artifact) -> SafeString:
        return rendering.link(artifact.sortie, artifact.sortie.key)
