"""Events in the admin."""

from __future__ import annotations

from django.contrib import admin

from fleet.events.models import Event
from fleet.readonly import ReadOnlyAdmin


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("id", "at", "kind", "scope", "subject", "data")
    search_fields = ("kind",)
    ordering = ("-id",)
    show_full_result_count = False
