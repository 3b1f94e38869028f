"""Concurrency keys: how many sorties hold each, and the limits, which operators may change."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest

from fleet.admin.pages import AuditedAdmin, BoundedPaginator
from missions.models import ConcurrencyKey, Sortie
from missions.states import SortieState


@admin.register(ConcurrencyKey)
class ConcurrencyKeyAdmin(AuditedAdmin):
    paginator = BoundedPaginator
    list_display = ("key", "limit", "usage")
    search_fields = ("key",)
    search_help_text = "A part of the key"
    ordering = ("key",)
    show_full_result_count = False
    fields = ("key", "limit", "usage")
    readonly_fields = ("key", "usage")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ConcurrencyKey]:
        holders = Sortie.objects.filter(
            concurrency_key=OuterRef("key"), state__in=(SortieState.QUEUED, SortieState.RUNNING)
        )
        number = holders.order_by().values("concurrency_key").annotate(number=Count("id")).values("number")
        return super().get_queryset(request).annotate(in_use=Coalesce(Subquery(number), 0))  # type: ignore[no-any-return]

    @admin.display(description="in use", ordering="in_use")
    def usage(self, row: Any) -> str:
        return f"{row.in_use} of {row.limit}"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # launches create keys

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # without its row, a key has no limit
