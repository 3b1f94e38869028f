"""Checkpoints: their contents, what a restore would do, what has changed since, and the actions on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import action
from unfold.enums import ActionVariant

from checkpoints import operations
from checkpoints.admin import rendering
from checkpoints.admin.forms import ForkForm
from checkpoints.models import Checkpoint
from checkpoints.queries import bounds
from checkpoints.recovery.plan import RecoveryPlan
from checkpoints.recovery.risks import Level
from fleet import errors, ids
from fleet.admin.pages import ReadOnlyAdmin, ago, apply_to_rows, button, parse_id, record_denial, redirect_to
from fleet.console import invocation, lines
from missions import operations as missions
from missions.admin import rendering as mission_rendering
from missions.models import Mission
from missions.states import MissionState

MAX_MISSIONS = 3  # in a column of the list
MAX_KEYS = 200  # on the page of a fork
MAX_SORTIES = 10_000  # of a checkpoint whose plan and differences its page shows, because reading them takes seconds


@admin.register(Checkpoint)
class CheckpointAdmin(ReadOnlyAdmin):
    list_display = ("ref", "mission_links", "name", "trigger", "keep", "sorties", "size", "created")
    list_filter = ("trigger", "keep", "created_at")
    search_fields = ("name", "note")
    search_help_text = "A name, words of the note, or an id (chk_…, msn_…)"
    ordering = ("-id",)
    actions = ("verify", "keep", "unkeep", "remove")
    actions_detail = ("restore_button", "fork_button", "verify_button", "keep_button", "unkeep_button", "remove_button")
    verify_button = button("verify", title="Verify", icon="verified", description="Reads every byte of the checkpoint.")
    keep_button = button("keep", title="Keep", icon="bookmark", description="Retention never removes it.")
    unkeep_button = button(
        "unkeep", title="Do not keep", icon="bookmark_remove", description="Retention may remove it."
    )
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "name", "ref", "mission_table", "trigger", "note", "keep", "counts", "size", "created_at",
                    "created_by", "parent_link", "digest",
                )
            },
        ),
        ("Recovery context", {"fields": ("context",)}),
        ("What a restore would do", {"fields": ("plan",)}),
        ("Changes since the checkpoint", {"fields": ("since",)}),
        ("Changes since its parent", {"fields": ("from_parent",)}),
    )  # fmt: skip
    readonly_fields = (
        "ref", "mission_table", "counts", "size", "parent_link", "context", "plan", "since", "from_parent",
    )  # fmt: skip

    def available_actions(self, row: Checkpoint) -> Collection[str]:
        always = {"verify", "remove", "unkeep" if row.keep else "keep"}
        return always | ({"restore", "fork"} if len(row.missions) == 1 else set())

    def has_start_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Whether the user may restore and fork missions: operate both checkpoints and missions."""
        return self.has_operate_permission(request) and request.user.has_perm("missions.change_mission")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Checkpoint], search_term: str) -> Any:
        id = parse_id(search_term)
        if id is None:
            return super().get_search_results(request, queryset, search_term)
        return queryset.filter(Q(id=id) | Q(missions__contains=[id])), False

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The row. Its `selected_mission` is the one that the page shows in detail: `?mission=`, or the only one."""
        row = super().get_object(request, object_id, from_field)
        if row is not None:
            row.may_start = self.has_start_permission(request)
            row.selected_mission = _selected_mission(row, request.GET.get("mission", ""))
        return row

    def prepare(self, rows: list[Any]) -> None:
        mission_ids = {mission for row in rows for mission in row.missions[:MAX_MISSIONS]}
        missions_by_id = {
            mission.id: mission for mission in Mission.objects.filter(id__in=mission_ids).only("id", "name")
        }
        for row in rows:
            row.missions_by_id = missions_by_id

    @admin.display(description="missions")
    def mission_links(self, row: Any) -> SafeString:
        links = format_html_join(
            ", ",
            "{}",
            ((rendering.mission_link(id, row.missions_by_id.get(id)),) for id in row.missions[:MAX_MISSIONS]),
        )
        more = len(row.missions) - MAX_MISSIONS
        return mission_rendering.clamped(format_html("{} and {} more", links, more) if more > 0 else links or "–")

    @admin.display(description="size", ordering="bytes")
    def size(self, row: Checkpoint) -> str:
        return filesizeformat(row.bytes)

    @admin.display(description="created", ordering="id")
    def created(self, row: Checkpoint) -> str:
        return ago(row.created_at)

    @admin.display(description="sorties")
    def counts(self, row: Checkpoint) -> str:
        failed = f", {row.failed:,} of them failed" if row.failed else ""
        return f"{row.sorties:,}: {row.ended:,} have ended{failed}"

    @admin.display(description="parent")
    def parent_link(self, row: Checkpoint) -> SafeString | str:
        parent = _parent(row)
        if parent is not None:
            return mission_rendering.link(parent, str(parent))
        return f"{ids.encode(ids.CHECKPOINT, row.parent)} (deleted)" if row.parent else "–"

    @admin.display(description="missions")
    def mission_table(self, row: Any) -> SafeString | str:
        def build() -> SafeString:
            missions_by_id = Mission.objects.in_bulk(row.missions[: bounds.MAX_MISSIONS])
            contents = [(ids.decode(ids.MISSION, entry["id"]), entry) for entry in _detail(row)["contents"]]
            table = mission_rendering.table(
                ("mission", "state then", "state now", "digest", ""),
                (
                    (
                        rendering.mission_link(id, missions_by_id.get(id), entry["name"]),
                        entry["state"],
                        missions_by_id[id].state if id in missions_by_id else "removed",
                        entry["digest"][:16],
                        rendering.choices(row, entry["id"]) if len(row.missions) > 1 else "",
                    )
                    for id, entry in contents
                ),
            )
            more = len(row.missions) - len(contents)
            return format_html("{}<p>{} more are not shown.</p>", table, more) if more > 0 else table

        return _or_error(build)

    @admin.display(description="context")
    def context(self, row: Any) -> SafeString | str:
        def build() -> SafeString | str:
            for entry in _detail(row)["contents"]:
                if row.selected_mission == ids.decode(ids.MISSION, entry["id"]) and entry["context"]:
                    return rendering.context(entry["context"])
            return "–"

        return _for_selected_mission(row, build)

    @admin.display(description="plan")
    def plan(self, row: Any) -> SafeString | str:
        def build() -> SafeString:
            return rendering.recovery_plan(operations.recovery_plan(checkpoint=row, mission=row.selected_mission))

        return _for_selected_mission(row, build, reads_all=True)

    @admin.display(description="until now")
    def since(self, row: Any) -> SafeString | str:
        def build() -> SafeString | str:
            if not Mission.objects.filter(id=row.selected_mission).exists():
                return "The mission's rows were removed."
            return rendering.difference(operations.diff(before=row, after=None, mission=row.selected_mission))

        return _for_selected_mission(row, build, reads_all=True)

    @admin.display(description="changes")
    def from_parent(self, row: Any) -> SafeString | str:
        def build() -> SafeString | str:
            parent = _parent(row)
            if parent is None:
                return "It has no parent."
            return rendering.difference(operations.diff(before=parent, after=row, mission=row.selected_mission))

        return _for_selected_mission(row, build, reads_all=True)

    @admin.action(description="Verify", permissions=["operate"])
    def verify(self, request: HttpRequest, rows: QuerySet[Checkpoint]) -> None:
        checkpoints = list(rows)
        damages = operations.verify(checkpoints=checkpoints)
        for damage in damages:
            messages.error(request, f"{damage.message} Affected: {', '.join(damage.shared_by)}.")
        if not damages:
            count = lines.counted(len(checkpoints), "checkpoint")
            messages.success(request, f"Verified {count}: every byte is intact.")

    @admin.action(description="Keep: retention never removes them", permissions=["operate"])
    def keep(self, request: HttpRequest, rows: QuerySet[Checkpoint]) -> None:
        apply_to_rows(request, rows, lambda row: operations.change(checkpoint=row, keep=True), "Kept")

    @admin.action(description="Do not keep: retention may remove them", permissions=["operate"])
    def unkeep(self, request: HttpRequest, rows: QuerySet[Checkpoint]) -> None:
        apply_to_rows(request, rows, lambda row: operations.change(checkpoint=row, keep=False), "No longer kept")

    @admin.action(description="Delete", permissions=["operate"])
    def remove(self, request: HttpRequest, rows: QuerySet[Checkpoint]) -> Any:
        question = "Delete these checkpoints? Other checkpoints that share files with them stay intact."
        if page := self.confirmation_page(request, rows, title="Delete checkpoints", question=question):
            return page
        return apply_to_rows(request, list(rows), lambda row: operations.delete(checkpoint=row), "Deleted")

    @action(  # type: ignore[untyped-decorator]  # unfold has no types
        description="Delete",
        permissions=["operate"],
        icon="delete",
        variant=ActionVariant.DANGER,
        dialog={
            "title": "Delete this checkpoint?",
            "description": "Other checkpoints that share files with it stay intact.",
            "form_submit_text": "Delete",
        },
    )
    def remove_button(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        row = self.get_object(request, object_id)
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        apply_to_rows(request, [row], lambda row: operations.delete(checkpoint=row), "Deleted")
        return redirect_to(request, self)

    @action(description="Restore", permissions=["start"], icon="settings_backup_restore")  # type: ignore[untyped-decorator]
    def restore_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show what a restore would do, and do exactly that once the user confirms it."""
        row = self.get_object(request, object_id)
        if row is None or row.selected_mission is None:
            messages.error(request, "Choose one of its missions first.")
            return redirect_to(request, self, object_id)
        if request.method == "POST":
            try:
                return self._restore(request, row)
            except errors.FleetError as error:
                _report(request, row, error)
        try:
            plan = operations.recovery_plan(checkpoint=row, mission=row.selected_mission)
        except errors.FleetError as error:
            messages.error(request, str(error))
            return redirect_to(request, self, object_id)
        levels = {risk.level for risk in plan.risks}
        mission = Mission.objects.filter(id=row.selected_mission).only("id", "name", "state").first()
        return self._page(
            request, row, "checkpoints/restore.html", title="Restore a mission",
            mission=rendering.mission_link(row.selected_mission, mission), now=mission.state if mission else "removed",
            plan=rendering.recovery_plan(plan), digest=plan.digest, blocked=Level.BLOCKING in levels,
            risky=Level.HIGH in levels, live=plan.state == MissionState.PAUSED,
        )  # fmt: skip

    def _restore(self, request: HttpRequest, row: Any) -> HttpResponse:
        can_execute = mission_rendering.can_execute(request)
        restored = operations.restore(
            checkpoint=row,
            mission=row.selected_mission,
            can_execute=can_execute,
            force="force" in request.POST,
            plan=request.POST.get("plan", ""),
            by=_user(request),
        )
        mission = restored.mission
        if "resume" in request.POST and mission.state == MissionState.PAUSED:
            mission = missions.resume(mission=mission.id, can_execute=can_execute)
        messages.success(request, f"Restored to {row.ref}. The mission is {mission.state}.")
        if replaced := rendering.replaced(restored):
            messages.info(request, replaced)
        return redirect("admin:missions_mission_change", mission.id)

    @action(description="Fork", permissions=["start"], icon="fork_right")  # type: ignore[untyped-decorator]
    def fork_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask which sorties run again, and create a mission that continues from the checkpoint."""
        row = self.get_object(request, object_id)
        if row is None or row.selected_mission is None:
            messages.error(request, "Choose one of its missions first.")
            return redirect_to(request, self, object_id)
        form = ForkForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                return self._fork(request, row, form.cleaned_data)
            except errors.FleetError as error:
                _report(request, row, error)
        try:
            keys = _sortie_keys(operations.recovery_plan(checkpoint=row, mission=row.selected_mission))
        except errors.FleetError as error:
            messages.error(request, str(error))
            return redirect_to(request, self, object_id)
        mission = Mission.objects.filter(id=row.selected_mission).only("id", "name", "inputs").first()
        return self._page(
            request, row, "checkpoints/fork.html", title="Fork a mission", form=form,
            mission=rendering.mission_link(row.selected_mission, mission), keys=keys[:MAX_KEYS], more=max(0, len(keys) - MAX_KEYS),
            inputs=json.dumps(mission.inputs, ensure_ascii=False) if mission and mission.inputs else "",
        )  # fmt: skip

    def _fork(self, request: HttpRequest, row: Any, data: dict[str, Any]) -> HttpResponse:
        can_execute = mission_rendering.can_execute(request)
        forked = operations.fork(
            checkpoint=row,
            mission=row.selected_mission,
            sorties=data["sorties"],
            params=data["params"],
            name=data["name"],
            can_execute=can_execute,
            by=_user(request),
        )
        mission = forked.mission
        if data["start"] and mission.state == MissionState.PLANNED:
            mission = missions.resume(mission=mission.id, can_execute=can_execute)
        messages.success(request, f"Forked. {len(forked.rerun):,} sorties run again; the mission is {mission.state}.")
        if forked.dropped:
            messages.info(
                request, f"Left out, because they will be added again: {rendering.first_keys(forked.dropped)}."
            )
        if forked.stale:
            messages.warning(
                request, f"These keep results that used a changed input: {rendering.first_keys(forked.stale)}."
            )
        return redirect("admin:missions_mission_change", mission.id)

    def _page(self, request: HttpRequest, row: Checkpoint, template: str, **context: Any) -> HttpResponse:
        back = reverse("admin:checkpoints_checkpoint_change", args=[row.id])
        base = self.admin_site.each_context(request)
        return TemplateResponse(request, template, {**base, "opts": self.opts, "row": row, "back": back, **context})


def _selected_mission(row: Checkpoint, requested: str) -> UUID | None:
    id = parse_id(requested)
    if id is not None and id in row.missions:
        return id
    return row.missions[0] if len(row.missions) == 1 else None


def _sortie_keys(plan: RecoveryPlan) -> list[str]:
    """The keys of all sorties of a checkpoint."""
    return sorted({*plan.keep, *plan.put_back, *plan.run, *plan.resume})


def _parent(row: Checkpoint) -> Checkpoint | None:
    return Checkpoint.objects.filter(id=row.parent).first() if row.parent else None


def _detail(row: Any) -> dict[str, Any]:
    """The bounded detail of a checkpoint, read once per page."""
    if not hasattr(row, "detail"):
        row.detail = bounds.detail(row, fleet=False)
    return dict(row.detail)


def _for_selected_mission(
    row: Any, build: Callable[[], SafeString | str], *, reads_all: bool = False
) -> SafeString | str:
    """Build a field of the selected mission, unless none is selected or it would take too long."""
    if row.selected_mission is None:
        return "Choose one of its missions above (“show”)." if row.missions else "It contains no mission."
    if reads_all and row.sorties > MAX_SORTIES:
        command = invocation.command("fleet_checkpoint", "show", row.ref)
        return f"Not shown for more than {MAX_SORTIES:,} sorties; `{command}` shows it."
    return _or_error(build)


def _or_error(build: Callable[[], SafeString | str]) -> SafeString | str:
    """Build a field. If that fails, for example because a file is damaged, return the error message."""
    try:
        return build()
    except errors.FleetError as error:
        return str(error)


def _report(request: HttpRequest, row: Checkpoint, error: errors.FleetError) -> None:
    messages.error(request, str(error))
    if isinstance(error, errors.Forbidden):
        record_denial(request, row, action=request.path.rpartition("/")[2], error=error)


def _user(request: HttpRequest) -> Any:
    """The signed-in user; the type includes anonymous ones, which cannot open a page of the admin."""
    return request.user
