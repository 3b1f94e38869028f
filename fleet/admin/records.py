"""Events and people in the admin."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string

from fleet import audit, errors, ids
from fleet.access import operations, tokens
from fleet.access.actor import role_of
from fleet.access.models import Key, Role, Session
from fleet.admin.pages import Audited, ReadOnlyAdmin, ago, button, do
from fleet.audit.models import Entry
from fleet.events import naming
from fleet.events.models import Event

RIGHTS = ("is_superuser", "is_staff", "groups", "user_permissions")
PREFIXES = {"mission": ids.MISSION, "sortie": ids.SORTIE, "agent": ids.AGENT, "node": ids.NODE}


def _rights(user: User) -> dict[str, Any]:
    """What the database says now of what somebody may."""
    told = operations.described(User.objects.get(pk=user.pk))
    return {name: told[name] for name in ("role", "active", "executes", "teams")}


def is_superuser(request: HttpRequest) -> bool:
    """One who is active."""
    user: Any = request.user
    return bool(user.is_active and user.is_superuser)


def _may_act_as(request: HttpRequest, person: User | None) -> bool:
    """Whether who asks may do all that this person may. A member of the staff is no match for another, whatever each may."""
    if person is None or is_superuser(request) or person.pk == request.user.pk:
        return True
    if person.is_superuser or person.is_staff or role_of(person) == Role.AGENT:
        return False
    return User.get_all_permissions(person) <= User.get_all_permissions(request.user)  # type: ignore[arg-type]


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
    list_display = ("id", "kind", "age", "named", "what", "details")
    fields = ("id", "kind", "at", "what", "scope", "subject", "data")
    readonly_fields = ("what",)
    list_filter = (About, "at")
    search_fields = ("kind",)
    search_help_text = "A kind, such as sortie.failed, or the id of what it happened to (msn_…, srt_…, agt_…)"
    id_fields = ("scope", "subject")
    ordering = ("-id",)

    def prepare(self, rows: list[Any]) -> None:
        naming.name(rows)

    @admin.display(description="name")
    def named(self, event: Event) -> str:
        return event.name or "–"

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
        return ", ".join(f"{name}: {value}" for name, value in event.told.items() if value not in (None, ""))[:300]


@admin.register(Entry)
class EntryAdmin(ReadOnlyAdmin):
    list_display = ("id", "at", "kind", "outcome", "actor", "subject", "address")
    list_filter = ("outcome",)
    search_fields = ("=kind", "=actor", "=subject")
    search_help_text = "A whole kind (role.changed), actor (user:ann) or subject, as the list shows them"
    id_fields = ()
    ordering = ("-id",)
    fields = ("id", "at", "kind", "outcome", "actor", "address", "request", "subject", "before", "after", "data")


@admin.register(Key)
class KeyAdmin(ReadOnlyAdmin):
    list_display = ("prefix", "name", "user", "may", "created_at", "expires_at", "used_at", "revoked_at")
    list_filter = ("revoked_at", "expires_at")
    list_select_related = ("user",)
    search_fields = ("prefix", "name", "user__username")
    search_help_text = "A prefix (flk_…), what it is for, or whose it is"
    ordering = ("-id",)
    fields = ("prefix", "name", "user", "may", "created_at", "expires_at", "used_at", "revoked_at")
    readonly_fields = ("may",)
    actions = ("revoke",)
    actions_detail = ("revoke_button",)
    revoke_button = button(
        "revoke", title="Revoke", icon="key_off", danger=True, description="It is refused from now on, for good."
    )

    def sensible(self, row: Key) -> Collection[str]:
        return () if row.revoked_at else {"revoke"}

    @admin.display(description="scopes")
    def may(self, key: Key) -> str:
        return ", ".join(key.scopes)

    @admin.action(description="Revoke", permissions=["operate"])
    def revoke(self, request: HttpRequest, rows: QuerySet[Key]) -> Any:
        question = "Revoke these machine keys? They are refused from now on, for good."
        if page := self.unconfirmed(request, rows, title="Revoke keys", question=question):
            return page
        return do(request, rows.select_related("user"), lambda key: operations.revoke_key(key=key), "Revoked")


@admin.register(Session)
class SessionAdmin(ReadOnlyAdmin):
    """Sign-ins for access tokens; those of browsers end with their cookies."""

    list_display = ("user", "address", "began_at", "used_at", "expires_at", "ended_at")
    list_filter = ("ended_at",)
    list_select_related = ("user",)
    search_fields = ("user__username",)
    ordering = ("-id",)
    fields = ("user", "address", "began_at", "used_at", "expires_at", "ended_at")
    actions = ("end",)
    actions_detail = ("end_button",)
    end_button = button(
        "end",
        title="End session",
        icon="logout",
        danger=True,
        description="Its tokens are good for nothing from then on.",
    )

    def sensible(self, row: Session) -> Collection[str]:
        return () if row.ended_at else {"end"}

    @admin.action(description="End", permissions=["operate"])
    def end(self, request: HttpRequest, rows: QuerySet[Session]) -> Any:
        question = "End these sessions? Their tokens are good for nothing from then on."
        if page := self.unconfirmed(request, rows, title="End sessions", question=question):
            return page
        return do(request, rows.select_related("user"), lambda row: tokens.end(user=row.user, session=row.id), "Ended")


if apps.is_installed("unfold"):  # Django's own pages of people, in unfold's look
    admin.site.unregister([User, Group])
    admin.site.index_template = "fleet/overview.html"

    class PersonForm(import_string("unfold.forms.UserChangeForm")):  # type: ignore[misc]
        def clean(self) -> Any:
            given = super().clean()
            kept = self.cleaned_data.get("is_superuser", self.instance.is_superuser)  # who may not change it sends none
            if not (self.cleaned_data.get("is_active") and kept):
                try:
                    operations.keep_an_admin(without=[self.instance])
                except errors.Conflict as fault:
                    raise ValidationError(str(fault)) from fault
            return given

    @admin.register(User)
    class PersonAdmin(Audited, UserAdmin):  # type: ignore[type-arg]
        form = PersonForm
        list_display = ("username", "role", "is_active", "is_staff", "email", "last_login")
        list_select_related = ("account",)
        readonly_fields = ("role",)
        fieldsets = ((None, {"fields": ("username", "password", "role")}), *UserAdmin.fieldsets[1:])  # type: ignore[index]
        add_fieldsets = UserAdmin.add_fieldsets  # unfold's has none
        add_form = import_string("unfold.forms.UserCreationForm")
        change_password_form = import_string("unfold.forms.AdminPasswordChangeForm")

        @admin.display(description="role")
        def role(self, user: User) -> str:
            return role_of(user)

        def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
            """Who is no superuser gives nobody a right, and none to themselves."""
            fields = tuple(super().get_readonly_fields(request, obj))
            return fields if is_superuser(request) else (*fields, *RIGHTS)

        def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
            """Whose password one can set, in their name one can act: so nobody does that to who may more than they."""
            return bool(super().has_change_permission(request, obj)) and _may_act_as(request, obj)

        def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
            return bool(super().has_delete_permission(request, obj)) and _may_act_as(request, obj)

        def told(self, row: User) -> dict[str, Any]:
            known = {"name": row.username, "first_name": row.first_name, "last_name": row.last_name, "email": row.email}
            return {**known, **_rights(row)}

        def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
            """As the commands do it: the change of rights is told, and who is let in no more has no session any more."""
            super().save_related(request, form, formsets, change)
            user: User = form.instance
            before, after = form.instance.told_before, _rights(user)
            changed = [name for name in after if before.get(name) != after[name]]
            if changed:
                audit.record(
                    kind="role.changed",
                    subject=f"user:{user.username}",
                    before={name: before.get(name) for name in changed},
                    after={name: after[name] for name in changed},
                )
            if not user.is_active:
                tokens.end(user=user)

        def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
            """What stands in the last list is why they are not deleted, one or several. Keys and sessions go with their user,
            though nobody deletes them on pages of their own."""
            *told, lacking, refused = super().get_deleted_objects(objs, request)
            lacking = set(lacking) - {model._meta.verbose_name for model in (Key, Session)}
            try:
                operations.keep_an_admin(without=list(objs))
            except errors.Conflict as fault:
                refused = [*refused, str(fault)]
            return *told, lacking, refused

        def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
            """Asked once more where it is done: Django asked before the first of two who delete each other was through."""
            with transaction.atomic():
                try:
                    operations.keep_an_admin(without=list(queryset))
                except errors.Conflict as fault:
                    raise PermissionDenied(str(fault)) from fault
                super().delete_queryset(request, queryset)

        def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
            """Whoever was signed in with the old one is not any more."""
            with transaction.atomic():
                before = self.get_object(request, unquote(id))
                answer: HttpResponse = super().user_change_password(request, id, form_url)
                after = self.get_object(request, unquote(id))
                if before is not None and after is not None and before.password != after.password:
                    operations.password_changed(user=after)
            return answer

    @admin.register(Group)
    class TeamAdmin(Audited, GroupAdmin):
        """A team may have permissions, which its members have too: only superusers change one."""

        def has_add_permission(self, request: HttpRequest) -> bool:
            return is_superuser(request)

        def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
            return is_superuser(request)

        def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
            return is_superuser(request)

        def told(self, row: Group) -> dict[str, Any]:
            permissions = row.permissions.values_list("content_type__app_label", "codename")
            return {
                "name": row.name,
                "permissions": sorted(".".join(one) for one in permissions),
                "members": sorted(row.user_set.values_list("username", flat=True)),
            }
