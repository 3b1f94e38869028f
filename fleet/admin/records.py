"""The admin's pages for events, the audit trail, machine keys, sessions, users and teams."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.module_loading import import_string

from fleet import audit, errors
from fleet.access import operations, tokens
from fleet.access.actor import role_of
from fleet.access.models import Key, Role, Session
from fleet.admin.pages import AuditedAdmin, ReadOnlyAdmin, ago, apply_to_rows, button
from fleet.audit.models import Entry
from fleet.events import naming
from fleet.events.models import PREFIXES, Event

RIGHTS = ("is_superuser", "is_staff", "groups", "user_permissions")


def _rights(user: User) -> dict[str, Any]:
    """Return a user's role and permissions as they are in the database now."""
    user_data = operations.serialize_user(User.objects.get(pk=user.pk))
    return {name: user_data[name] for name in ("role", "active", "can_execute", "teams")}


def is_superuser(request: HttpRequest) -> bool:
    user: Any = request.user
    return bool(user.is_active and user.is_superuser)


def _may_act_as(request: HttpRequest, user: User | None) -> bool:
    """Whether the requesting user has all permissions of this user. Staff cannot act as other staff in any case."""
    if user is None or is_superuser(request) or user.pk == request.user.pk:
        return True
    if user.is_superuser or user.is_staff or role_of(user) == Role.AGENT:
        return False
    return User.get_all_permissions(user) <= User.get_all_permissions(request.user)  # type: ignore[arg-type]


class SubjectFilter(admin.SimpleListFilter):
    """Filters events by the noun of their subject. The choices are fixed, because reading them would scan the table."""

    title = "about"
    parameter_name = "about"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(noun, noun) for noun in (*PREFIXES, "service", "alert")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Event]) -> QuerySet[Event]:
        return queryset.filter(kind__startswith=f"{self.value()}.") if self.value() else queryset


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("id", "kind", "age", "subject_name", "subject_id", "details")
    fields = ("id", "kind", "at", "subject_id", "scope", "subject", "data")
    readonly_fields = ("subject_id",)
    list_filter = (SubjectFilter, "at")
    search_fields = ("kind",)
    search_help_text = "A kind, such as sortie.failed, or the id of the subject (msn_…, srt_…, agt_…)"
    id_fields = ("scope", "subject")
    ordering = ("-id",)

    def prepare(self, rows: list[Any]) -> None:
        naming.set_names(rows)

    @admin.display(description="name")
    def subject_name(self, event: Event) -> str:
        return event.name or "–"

    @admin.display(description="when", ordering="id")
    def age(self, event: Event) -> str:
        return ago(event.at)

    @admin.display(description="subject ID")
    def subject_id(self, event: Event) -> str:
        return event.subject_ref or str(event.subject or "–")

    @admin.display(description="details")
    def details(self, event: Event) -> str:
        return ", ".join(f"{name}: {value}" for name, value in event.public_data.items() if value not in (None, ""))[
            :300
        ]


@admin.register(Entry)
class EntryAdmin(ReadOnlyAdmin):
    list_display = ("id", "at", "kind", "outcome", "actor", "subject", "address")
    list_filter = ("outcome",)
    search_fields = ("=kind", "=actor", "=subject")
    search_help_text = "A complete kind (role.changed), actor (user:ann) or subject, as the list shows them"
    id_fields = ()
    rows_name = "audit entries"  # "3 audit entries" below the list
    ordering = ("-id",)
    fields = ("id", "at", "kind", "outcome", "actor", "address", "request", "subject", "before", "after", "data")


@admin.register(Key)
class KeyAdmin(ReadOnlyAdmin):
    list_display = ("prefix", "name", "user", "scope_names", "created_at", "expires_at", "used_at", "revoked_at")
    list_filter = ("revoked_at", "expires_at")
    list_select_related = ("user",)
    search_fields = ("prefix", "name", "user__username")
    search_help_text = "A prefix (flk_…), the name of the key, or its user"
    ordering = ("-id",)
    fields = ("prefix", "name", "user", "scope_names", "created_at", "expires_at", "used_at", "revoked_at")
    readonly_fields = ("scope_names",)
    actions = ("revoke",)
    actions_detail = ("revoke_button",)
    revoke_button = button(
        "revoke",
        title="Revoke",
        icon="key_off",
        danger=True,
        description="The key is refused from now on, permanently.",
    )

    def available_actions(self, row: Key) -> Collection[str]:
        return () if row.revoked_at else {"revoke"}

    @admin.display(description="scopes")
    def scope_names(self, key: Key) -> str:
        return ", ".join(key.scopes)

    @admin.action(description="Revoke", permissions=["operate"])
    def revoke(self, request: HttpRequest, rows: QuerySet[Key]) -> Any:
        question = "Revoke these machine keys? They are refused from now on, permanently."
        if page := self.confirmation_page(request, rows, title="Revoke keys", question=question):
            return page
        return apply_to_rows(
            request, rows.select_related("user"), lambda key: operations.revoke_key(key=key), "Revoked"
        )


@admin.register(Session)
class SessionAdmin(ReadOnlyAdmin):
    """Sign-in sessions of API clients. Those of browsers are Django's own, which have no page."""

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
        description="Its tokens become invalid at once.",
    )

    def available_actions(self, row: Session) -> Collection[str]:
        return () if row.ended_at else {"end"}

    @admin.action(description="End", permissions=["operate"])
    def end(self, request: HttpRequest, rows: QuerySet[Session]) -> Any:
        question = "End these sessions? Their tokens become invalid at once."
        if page := self.confirmation_page(request, rows, title="End sessions", question=question):
            return page
        return apply_to_rows(
            request, rows.select_related("user"), lambda row: tokens.end(user=row.user, session=row.id), "Ended"
        )


if apps.is_installed("unfold"):  # Django's own pages for users and groups, in unfold's style
    admin.site.unregister([User, Group])
    admin.site.index_template = "fleet/overview.html"

    UserChangeForm: Any = import_string("unfold.forms.UserChangeForm")

    class PersonForm(UserChangeForm):  # type: ignore[misc]
        class Meta(UserChangeForm.Meta):  # type: ignore[misc]
            help_texts = {"groups": "The teams of this user, who sees their missions and has all of their permissions."}

        def clean(self) -> Any:
            cleaned = super().clean()
            # Missing in the form of a user who may not change it.
            stays_superuser = self.cleaned_data.get("is_superuser", self.instance.is_superuser)
            if not (self.cleaned_data.get("is_active") and stays_superuser):
                try:
                    operations.require_other_admin(without=[self.instance])
                except errors.Conflict as error:
                    raise ValidationError(str(error)) from error
            return cleaned

    @admin.register(User)
    class PersonAdmin(AuditedAdmin, UserAdmin):  # type: ignore[type-arg, misc]
        form = PersonForm
        list_display = ("username", "role", "is_active", "is_staff", "email", "last_login")
        list_select_related = ("account",)
        readonly_fields = ("role", "last_login", "date_joined")
        fieldsets = ((None, {"fields": ("username", "password", "role")}), *UserAdmin.fieldsets[1:])  # type: ignore[index]
        add_fieldsets = UserAdmin.add_fieldsets  # unfold defines none
        add_form = import_string("unfold.forms.UserCreationForm")
        change_password_form = import_string("unfold.forms.AdminPasswordChangeForm")

        @admin.display(description="role")
        def role(self, user: User) -> str:
            return role_of(user)

        def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
            """Only superusers may change rights, so other staff cannot grant any, not even to themselves."""
            fields = tuple(super().get_readonly_fields(request, obj))
            return fields if is_superuser(request) else (*fields, *RIGHTS)

        def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
            """Forbid changes to users with more permissions: whoever can set a user's password can act as that user."""
            return bool(super().has_change_permission(request, obj)) and _may_act_as(request, obj)

        def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
            return bool(super().has_delete_permission(request, obj)) and _may_act_as(request, obj)

        def audit_data(self, row: User) -> dict[str, Any]:
            names = {"name": row.username, "first_name": row.first_name, "last_name": row.last_name, "email": row.email}
            return {**names, **_rights(row)}

        def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
            """Record a change of rights, and end the sessions of a disabled user, as the commands do."""
            super().save_related(request, form, formsets, change)
            user: User = form.instance
            before, after = form.instance.values_before, _rights(user)
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
            """Protect the last admin. Keys and sessions are deleted with their user, though not on their own pages.

            Django shows the objects in the last list, `protected`, as the reasons why nothing can be deleted.
            """
            *objects, missing_permissions, protected = super().get_deleted_objects(objs, request)
            missing_permissions = set(missing_permissions) - {model._meta.verbose_name for model in (Key, Session)}
            try:
                operations.require_other_admin(without=list(objs))
            except errors.Conflict as error:
                protected = [*protected, str(error)]
            return *objects, missing_permissions, protected

        def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
            """Check again in the transaction: two admins may delete each other at the same moment."""
            with transaction.atomic():
                try:
                    operations.require_other_admin(without=list(queryset))
                except errors.Conflict as error:
                    raise PermissionDenied(str(error)) from error
                super().delete_queryset(request, queryset)

    @admin.register(Group)
    class TeamAdmin(AuditedAdmin, GroupAdmin):  # type: ignore[misc]
        """Only superusers may change teams, because a team can grant permissions to its members."""

        def has_add_permission(self, request: HttpRequest) -> bool:
            return is_superuser(request)

        def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
            return is_superuser(request)

        def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
            return is_superuser(request)

        def audit_data(self, row: Group) -> dict[str, Any]:
            permissions = row.permissions.values_list("content_type__app_label", "codename")
            return {
                "name": row.name,
                "permissions": sorted(".".join(permission) for permission in permissions),
                "members": sorted(row.user_set.values_list("username", flat=True)),
            }
