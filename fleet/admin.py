"""Events and people in the admin."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.module_loading import import_string

from fleet import ids
from fleet.events.models import Event
from fleet.readonly import Audited, ReadOnlyAdmin, ago

PREFIXES = {"mission": ids.MISSION, "sortie": ids.SORTIE, "agent": ids.AGENT, "node": ids.NODE}


class About(admin.SimpleListFilter):
    """What an event happened to. The choices are not read from the rows, which are many."""

    title = "about"
    parameter_name = "about"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(noun, noun) for noun in (*PREFIXES, "service", "alert")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Event]) -> QuerySet[Event]:
        return queryset.filter(kind__startswith=f"{self.value()}.") if self.value() else queryset


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("id", "kind", "age", "what", "details")
    fields = ("id", "kind", "at", "what", "scope", "subject", "data")
    readonly_fields = ("what",)
    list_filter = (About, "at")
    search_fields = ("kind",)
    search_help_text = "A kind, such as sortie.failed, or the id of what it happened to (msn_…, srt_…, agt_…)"
    id_fields = ("scope", "subject")
    ordering = ("-id",)

    @admin.display(description="when", ordering="id")
    def age(self, event: Event) -> str:
        return ago(event.at)

    @admin.display(description="happened to")
    def what(self, event: Event) -> str:
        prefix = PREFIXES.get(event.kind.partition(".")[0])
        if event.subject is None:
            return "–"
        return ids.encode(prefix, event.subject) if prefix else str(event.subject)

    @admin.display(description="what it says")
    def details(self, event: Event) -> str:
        return ", ".join(f"{name}: {value}" for name, value in event.data.items() if value not in (None, ""))[:300]


if apps.is_installed("unfold"):  # Django's own pages of people, in unfold's look
    admin.site.unregister([User, Group])

    @admin.register(User)
    class PersonAdmin(Audited, UserAdmin):  # type: ignore[type-arg]
        form = import_string("unfold.forms.UserChangeForm")
        add_form = import_string("unfold.forms.UserCreationForm")
        change_password_form = import_string("unfold.forms.AdminPasswordChangeForm")

    @admin.register(Group)
    class TeamAdmin(Audited, GroupAdmin):
        pass
