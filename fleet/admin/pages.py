"""Base classes of the admin's pages: they show rows but do not edit them; their actions call the operations.

With django-unfold in INSTALLED_APPS the pages are unfold's; without it they are Django's own, with the same content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.contrib.auth import get_permission_codename
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import DataError
from django.db.models import Q, QuerySet, UUIDField
from django.forms import BooleanField, model_to_dict
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.module_loading import import_string
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from fleet import audit, errors, humanise, ids
from fleet.limits import denials
from fleet.postgres import clock

Page: Any = import_string("unfold.admin.ModelAdmin") if apps.is_installed("unfold") else admin.ModelAdmin

MAX_CHANGED = 1_000  # rows that one action changes
MAX_COUNTED = 10_000  # rows that a list counts and pages through; filters and search find the others
COLOURS = {
    "succeeded": "success", "failed": "danger", "running": "info", "busy": "info", "idle": "success",
    "cancelled": "warning", "cancelling": "warning", "paused": "warning", "waiting": "warning", "lost": "danger",
    "draining": "warning", "tolerated": "warning",
    # changes, and outcomes of conflicts
    "committed": "info", "landing": "info", "landed": "success", "conflicted": "danger", "kept": "warning",
    "uncommitted": "info", "waits for a person": "danger", "rework": "info", "resolved": "success", "ordered": "success",
    "dropped": "warning", "refused": "warning", "discarded": "warning",
    "in force": "info", "released": "warning",  # reservations
    "active": "success", "failing": "danger",  # schedules
}  # fmt: skip


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # not generic at run time
    """Counts at most MAX_COUNTED rows, so that no list becomes slower as the history grows."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[:MAX_COUNTED].count())


class StrictFiltersAdmin(Page):  # type: ignore[misc]
    """A page whose list accepts only the filters that it offers.

    Django also accepts a filter by any other field of the model, such as `?plan__contains=…`, with which staff could
    infer values that no page shows.
    """

    linked_filters: tuple[str, ...] = ()  # further fields, by which links from other pages filter
    empty_value_display = "–"

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The row with this primary key. If that is a UUID, the address may also contain the id (`msn_…`)."""
        if isinstance(self.opts.pk, UUIDField) and (id := parse_id(object_id)) is not None:
            object_id = str(id)
        try:
            return super().get_object(request, object_id, from_field or None)
        except DataError:  # for example a NUL, if the key is a text
            return None

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """Title the list "Missions" instead of "Select mission to view"."""
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The list. A filter with a value that Postgres refuses leads to the page on which Django says so."""
        try:
            return super().get_changelist_instance(request)
        except (DataError, OverflowError) as error:
            raise IncorrectLookupParameters from error

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        """Run an action, unless the request names too many rows for one request, or something that is no row's key."""
        rows = queryset
        try:
            if not BooleanField().to_python(request.POST.get("select_across")):
                rows = queryset.filter(pk__in=request.POST.getlist(ACTION_CHECKBOX_NAME))
            count = rows.order_by()[: MAX_CHANGED + 1].count()
        except (ValidationError, ValueError, DataError, OverflowError):
            messages.warning(request, "The selection contains something that is not in this list. Nothing was changed.")
            return None
        if count > MAX_CHANGED:
            messages.warning(
                request, f"An action changes at most {MAX_CHANGED:,} rows at once. Filter the list, and select fewer."
            )
            return None
        return super().response_action(request, queryset)

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        """Replaces Django's message, and leads to the list instead of the first page."""
        messages.warning(request, f"There is no {opts.verbose_name} {unquote(object_id)}. It may have been removed.")
        return redirect_to(request, self)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        offered = {*map(_filtered_field, self.get_list_filter(request)), *self.linked_filters}
        fields = {field.partition("__")[0] for field in offered}
        if lookup.partition("__")[0] not in fields or lookup.endswith("regex"):  # patterns that take seconds
            return False
        return bool(super().lookup_allowed(lookup, value, request))


def _filtered_field(entry: Any) -> str:
    """The field or parameter of an entry of `list_filter`: a field, a field with its filter, or a filter."""
    if isinstance(entry, tuple):
        entry = entry[0]
    return entry if isinstance(entry, str) else str(entry.parameter_name)


class AuditedAdmin(StrictFiltersAdmin):
    """A page on which people edit rows. The audit trail records each change, with the values before and after."""

    def audit_data(self, row: Any) -> dict[str, Any]:
        """Return the values of a row for the audit trail. For a change, only the values that differ are recorded."""
        return model_to_dict(row)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        before = type(obj)._default_manager.filter(pk=obj.pk).first() if change else None
        obj.values_before = self.audit_data(before) if before else {}
        super().save_model(request, obj, form, change)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self._record("created", obj, message, after=self.audit_data(obj))
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        after = self.audit_data(obj)
        before = getattr(obj, "values_before", after)  # missing on the page that changes only a password
        changed = [name for name in after if name not in before or before[name] != after[name]]
        self._record(
            "changed", obj, message,
            before={name: before[name] for name in changed if name in before},
            after={name: after[name] for name in changed},
        )  # fmt: skip
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for row in queryset:
            self._record("deleted", row, "", before=self.audit_data(row))
        return super().log_deletions(request, queryset)

    def _record(
        self,
        action: str,
        row: Any,
        message: Any,
        *,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
    ) -> None:
        kind = "team" if isinstance(row, Group) else row._meta.model_name
        subject = f"user:{row}" if kind == "user" else str(row)
        audit.record(
            kind=f"{kind}.{action}",
            subject=subject,
            before=before or None,
            after=after or None,
            data={"message": message},
        )


class ReadOnlyAdmin(StrictFiltersAdmin):
    """A page of rows that only the operations change. Its actions require the model's change permission."""

    paginator = BoundedPaginator
    show_full_result_count = False
    list_per_page = 50
    id_fields: tuple[str, ...] = ("id",)  # fields to search for a typed id (`msn_…`) or a UUID; empty: none

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        """Hide Django's history, which is empty because nobody edits these rows, and leave "View" out of the title."""
        extra_context = {"title": capfirst(self.opts.verbose_name), **(extra_context or {}), "show_history": False}
        return super().changeform_view(request, object_id, form_url, extra_context)

    @admin.display(description="ID", ordering="pk")
    def ref(self, row: Any) -> str:
        return str(row.ref)

    @admin.display(description="ID", ordering="pk")
    def ref_column(self, row: Any) -> SafeString:
        """The id in a list, where it wraps if the columns do not fit: a list cuts off what is too wide."""
        style = "min-width: 9rem; white-space: normal; overflow-wrap: anywhere"
        return format_html('<div style="{}">{}</div>', style, row.ref)

    def available_actions(self, row: Any) -> Collection[str]:
        """Return the names of the actions that apply to a row in its current state."""
        return ()

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Return the buttons on the page of a row (unfold's): those of the actions that apply."""
        row = self.get_object(request, str(object_id))
        available = self.available_actions(row) if row is not None else ()
        actions = super().get_actions_detail(request, object_id)
        return [item for item in actions if item.method.original_function_name.removesuffix(BUTTON) in available]

    def confirmation_page(self, request: HttpRequest, rows: QuerySet[Any], *, title: str, question: str) -> Any:
        """Return the page that asks the user to confirm an action; None if the user has confirmed it."""
        if "confirmed" in request.POST or "_form_submitted" in request.POST:
            return None
        context = {
            **self.admin_site.each_context(request), "title": title, "question": question, "rows": list(rows),
            "action": request.POST.get("action", ""), "opts": self.opts,
        }  # fmt: skip
        return TemplateResponse(request, "fleet/confirm.html", context)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_operate_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Whether the user may run the actions that are declared with `permissions=["operate"]`."""
        permission = f"{self.opts.app_label}.{get_permission_codename('change', self.opts)}"
        return bool(getattr(request, "user", None)) and request.user.has_perm(permission)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        """Search `id_fields` if the term is an id; otherwise search as usual."""
        id = parse_id(search_term)
        if id is None or not self.id_fields:
            return super().get_search_results(request, queryset, search_term)
        condition = Q()
        for field in self.id_fields:
            condition |= Q(**{field: id})
        return queryset.filter(condition), False

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        page = super().get_changelist_instance(request)
        page.result_list = list(page.result_list)
        self.prepare(page.result_list)
        return page

    def prepare(self, rows: list[Any]) -> None:
        """Load what the columns show besides the rows, with one query for all rows instead of one per row."""

    @display(description="state", ordering="state", label=COLOURS)  # type: ignore[untyped-decorator]  # Django's has no labels
    def coloured_state(self, row: Any) -> str:
        return str(row.state)


BUTTON = "_button"


def button(act: str, *, title: str, description: str = "", icon: str, danger: bool = False) -> Any:
    """Create a button, on the page of a row, for an action of the list. It asks for confirmation and acts only on POST.

    Assign it to `<act>_button`.
    """

    def run_action(page: Any, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        row = page.get_object(request, object_id)
        if row is None:
            missing: HttpResponse = page._get_obj_does_not_exist_redirect(request, page.opts, object_id)
            return missing
        getattr(page, act)(request, page.get_queryset(request).filter(pk=row.pk))
        return redirect_to(request, page, row.pk)

    run_action.__name__ = act + BUTTON
    return action(
        run_action,
        description=title,
        permissions=["operate"],
        icon=icon,
        variant=ActionVariant.DANGER if danger else ActionVariant.DEFAULT,
        dialog={"title": f"{title}?", "description": description, "form_submit_text": title},
    )


def redirect_to(request: HttpRequest, page: Any, row: Any = None) -> HttpResponse:
    """Redirect to the page of a row, or to the list. After a dialog htmx reads the address from its own header."""
    name = f"{page.opts.app_label}_{page.opts.model_name}"
    url = reverse(f"admin:{name}_changelist") if row is None else reverse(f"admin:{name}_change", args=[row])
    if request.headers.get("HX-Request"):
        return HttpResponse(headers={"HX-Redirect": url})
    return redirect(url)


def parse_id(text: str) -> UUID | None:
    """Parse a typed id or a UUID; None if the text is neither."""
    text = text.strip()
    try:
        return ids.decode(text.partition("_")[0].lower(), text) if "_" in text else UUID(text)
    except (errors.Invalid, ValueError):
        return None


def apply_to_rows(request: HttpRequest, rows: Iterable[Any], act: Callable[[Any], object], label: str) -> None:
    """Apply `act` to each row. Show the user how many succeeded (`label`: N) and why others were refused."""
    count = 0
    for row in rows:
        try:
            act(row)
            count += 1
        except errors.FleetError as error:
            messages.error(request, f"{row}: {error}")
            if isinstance(error, errors.Forbidden):
                record_denial(request, row, action=request.POST.get("action", ""), error=error)
    if count:
        messages.success(request, f"{label}: {count}.")


def record_denial(request: HttpRequest, row: Any, *, action: str, error: errors.Forbidden) -> None:
    """Record in the audit trail that an operation refused to change a row."""
    denials.record(
        request=request,
        user=request.user if request.user.is_authenticated else None,
        subject=getattr(row, "ref", None) or str(row),
        data={"action": action, "why": str(error)},
    )


def ago(when: datetime | None) -> str:
    """Format an age in its largest unit: `3 min ago`."""
    if when is None:
        return "–"
    return span((clock.now() - when).total_seconds()).partition(" ")[0] + " ago"


def between(start: datetime | None, end: datetime | None) -> str:
    """Format the duration from `start` to `end`, or to now."""
    return span(((end or clock.now()) - start).total_seconds()) if start else "–"


def span(seconds: float) -> str:
    """Format a duration with no-break spaces between numbers and units."""
    return re.sub(r"(?<=\d) ", "\N{NO-BREAK SPACE}", humanise.duration(seconds))
