"""The admin of agent types, agents and nodes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget

from agents import operations, queries
from agents.models import Agent, AgentType, Node
from agents.operations import types
from fleet import errors
from fleet.access.actor import EXECUTE
from fleet.admin.pages import AuditedAdmin, ReadOnlyAdmin, ago, apply_to_rows, between, button, redirect_to
from fleet.console import lines
from fleet.console.lines import counted

LOG_LINES = 200

# Fields that decide what code runs, what it can reach and who gets it; changing them requires plan.execute.
EXECUTE_FIELDS = (
    *("prompt_argv", "env_allow", "env_secret", "readable", "network"),
    *("external", "accepts_external"),
)


class AgentTypeForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    class Meta:
        model = AgentType
        fields = (
            *("name", "description", "prompt_argv", "concurrency", "agents", "max_agents", "max_running", "autoscale"),
            *("memory_mb", "disk_mb", "max_duration_s", "alert_silence_s", "env_allow", "env_secret"),
            *("readable", "network", "external", "accepts_external", "enabled"),
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("prompt_argv", "env_allow", "env_secret", "readable"):
            if name in self.fields:  # they are missing for users who may not run code, who see them read-only
                self.fields[name].widget.attrs["rows"] = 2  # set here, because another widget would replace unfold's

    def clean_prompt_argv(self) -> list[str]:
        return self._string_list("prompt_argv")

    def clean_env_allow(self) -> list[str]:
        return self._string_list("env_allow")

    def clean_env_secret(self) -> list[str]:
        return self._string_list("env_secret")

    def clean_readable(self) -> list[str]:
        return self._string_list("readable")

    def _string_list(self, field: str) -> list[str]:
        try:
            return types.string_list(field, self.cleaned_data[field], stored=self.initial.get(field) or ())
        except errors.Invalid as error:
            raise forms.ValidationError(error.hint) from error


@admin.register(AgentType)
class AgentTypeAdmin(AuditedAdmin):
    form = AgentTypeForm
    fields = AgentTypeForm.Meta.fields  # the name first, even if it is read-only
    list_display = ("name", "description", "agents", "concurrency", "takes_prompts", "enabled")
    list_filter = ("enabled",)
    search_fields = ("name", "description")

    @admin.display(description="takes prompts", boolean=True)
    def takes_prompts(self, type: AgentType) -> bool:
        return type.takes_prompts

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        fixed = ("name",) if obj else ()  # sorties, plans and queues refer to it by name
        user: Any = request.user
        return fixed if user.has_perm(EXECUTE) else (*fixed, *EXECUTE_FIELDS)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # earlier sorties refer to it; disable it instead


class SpawnForm(BaseDialogForm):  # type: ignore[misc]  # unfold has no types
    type = forms.ModelChoiceField(
        AgentType.objects.filter(enabled=True, external=False), widget=UnfoldAdminSelectWidget, label="Agent type"
    )
    count = forms.IntegerField(min_value=1, max_value=100, initial=1, widget=UnfoldAdminIntegerFieldWidget)
    node = forms.ModelChoiceField(
        Node.objects.filter(up=True), required=False, widget=UnfoldAdminSelectWidget,
        empty_label="the node with the most room",
    )  # fmt: skip


@admin.register(Agent)
class AgentAdmin(ReadOnlyAdmin):
    list_display = ("name", "coloured_state", "type", "node", "last_heartbeat", "age", "reason", "ref_column")
    list_filter = ("state", "type", "node")
    list_select_related = ("node", "type")
    search_fields = ("reason", "node__name")
    search_help_text = "Words from the reason, a node, or an id (agt_…)"
    id_fields = ("id", "node_id")
    ordering = ("-id",)
    actions = ("drain", "terminate", "stop")
    actions_list = ("spawn_button",)
    actions_detail = ("drain_button", "terminate_button", "stop_button")
    drain_button = button(
        "drain", title="Drain", icon="hourglass_bottom", description="It finishes its running sorties, then exits."
    )
    terminate_button = button(
        "terminate", title="Terminate", icon="power_settings_new", danger=True,
        description="It exits after a short wait. Unfinished sorties go back to the queue.",
    )  # fmt: skip
    stop_button = button(
        "stop", title="Stop now", icon="stop_circle", danger=True,
        description="Its sorties are stopped at once and go back to the queue.",
    )  # fmt: skip
    fields = (
        "running_sorties",
        "ref",
        "name",
        "type",
        "state",
        "reason",
        "node",
        "pid",
        "last_heartbeat",
        "age",
        "spawned_at",
        "heartbeat_at",
        "ended_at",
        "log_tail",
    )
    readonly_fields = ("ref", "name", "last_heartbeat", "age", "running_sorties", "log_tail")

    def available_actions(self, row: Agent) -> Collection[str]:
        return {"drain", "terminate", "stop"} if row.state in Agent.LIVE and row.node_id else ()

    @admin.display(description="running sorties")
    def running_sorties(self, agent: Agent) -> SafeString:
        """Link to them. The URL is looked up by name, because this package does not import missions."""
        url = reverse("admin:missions_sortie_changelist") + f"?state__exact=running&q={agent.ref}"
        return format_html(
            '<a href="{}" class="text-link" style="text-decoration: underline">{}</a>',
            url,
            counted(agent.running, "sortie"),
        )

    @admin.display(description=f"last {LOG_LINES} lines of its log")
    def log_tail(self, agent: Agent) -> SafeString:
        text = "".join(piece.text for piece in queries.last_lines(agent, lines=LOG_LINES))
        return format_html(
            '<pre style="white-space: pre-wrap; overflow-wrap: anywhere">{}</pre>', lines.terminal_safe(text) or "–"
        )

    @action(  # type: ignore[untyped-decorator]  # unfold has no types
        description="Start agents",
        permissions=["operate"],
        icon="add",
        dialog={"title": "Start agents", "description": "", "form_class": SpawnForm, "form_submit_text": "Start"},
    )
    def spawn_button(self, request: HttpRequest, form: SpawnForm) -> HttpResponse:
        choices = form.cleaned_data
        node = choices["node"].name if choices["node"] else None
        apply_to_rows(
            request,
            [choices["type"]],
            lambda row: operations.spawn(type=row.name, count=choices["count"], node=node),
            "Ordered",
        )
        return redirect_to(request, self)

    def _order(self, request: HttpRequest, rows: QuerySet[Agent], order: Agent.Order, label: str) -> None:
        why = f"By {request.user} in the admin."

        def give_order(row: Agent) -> None:
            if not operations.order(agents=[row.id], order=order, reason=why):
                raise errors.Conflict("It has already ended, or already has this order or a stronger one.")

        apply_to_rows(request, rows, give_order, label)

    @admin.action(description="Drain: finish running sorties, then exit", permissions=["operate"])
    def drain(self, request: HttpRequest, rows: QuerySet[Agent]) -> None:
        self._order(request, rows, Agent.Order.DRAIN, "Ordered to drain")

    @admin.action(description="Terminate: exit after a short wait", permissions=["operate"])
    def terminate(self, request: HttpRequest, rows: QuerySet[Agent]) -> Any:
        question = "Terminate these agents? Sorties that do not finish in time go back to the queue."
        if page := self.confirmation_page(request, rows, title="Terminate agents", question=question):
            return page
        return self._order(request, rows, Agent.Order.TERMINATE, "Ordered to terminate")

    @admin.action(description="Stop now: their sorties go back to the queue", permissions=["operate"])
    def stop(self, request: HttpRequest, rows: QuerySet[Agent]) -> Any:
        question = "Stop these agents at once? Their sorties are stopped and go back to the queue."
        if page := self.confirmation_page(request, rows, title="Stop agents now", question=question):
            return page
        return self._order(request, rows, Agent.Order.NOW, "Ordered to stop now")

    @admin.display(description="last heartbeat", ordering="heartbeat_at")
    def last_heartbeat(self, agent: Agent) -> str:
        return ago(agent.heartbeat_at)

    @admin.display(description="age")
    def age(self, agent: Agent) -> str:
        return between(agent.spawned_at, agent.ended_at)


@admin.register(Node)
class NodeAdmin(ReadOnlyAdmin):
    list_display = ("name", "up", "cordoned", "last_heartbeat", "pid")
    list_filter = ("up", "cordoned")
    search_fields = ("name",)
    actions = ("cordon", "uncordon")
    actions_detail = ("cordon_button", "uncordon_button")
    cordon_button = button(
        "cordon", title="Cordon", icon="block", description="It gets no new agents. Its current agents keep running."
    )
    uncordon_button = button("uncordon", title="Uncordon", icon="check", description="It gets new agents again.")

    def available_actions(self, row: Node) -> Collection[str]:
        return {"uncordon" if row.cordoned else "cordon"}

    @admin.display(description="last heartbeat", ordering="heartbeat_at")
    def last_heartbeat(self, node: Node) -> str:
        return ago(node.heartbeat_at)

    @admin.action(description="Cordon: no new agents", permissions=["operate"])
    def cordon(self, request: HttpRequest, rows: QuerySet[Node]) -> None:
        why = f"By {request.user} in the admin."
        apply_to_rows(request, rows, lambda row: operations.cordon(node=row.name, on=True, reason=why), "Cordoned")

    @admin.action(description="Uncordon: new agents again", permissions=["operate"])
    def uncordon(self, request: HttpRequest, rows: QuerySet[Node]) -> None:
        why = f"By {request.user} in the admin."
        apply_to_rows(request, rows, lambda row: operations.cordon(node=row.name, on=False, reason=why), "Uncordoned")
