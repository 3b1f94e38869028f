"""Agents and nodes to read, agent types to edit."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from agents import operations
from agents.models import Agent, AgentType, Node
from agents.operations import types
from fleet import errors
from fleet.readonly import Audited, ReadOnlyAdmin, ago, between, do


class AgentTypeForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    class Meta:
        model = AgentType
        fields = (
            *("name", "description", "prompt_argv", "concurrency", "agents", "most_agents", "at_once", "autoscale"),
            *("memory_mb", "disk_mb", "longest_s", "env_allow", "outside", "enabled"),
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("prompt_argv", "env_allow"):
            self.fields[name].widget.attrs["rows"] = 2  # the widget stays the admin's own

    def clean_prompt_argv(self) -> list[str]:
        return self._texts("prompt_argv")

    def clean_env_allow(self) -> list[str]:
        return self._texts("env_allow")

    def _texts(self, field: str) -> list[str]:
        try:
            return types.texts(field, self.cleaned_data[field])
        except errors.Invalid as fault:
            raise forms.ValidationError(fault.hint) from fault


@admin.register(AgentType)
class AgentTypeAdmin(Audited):
    form = AgentTypeForm
    fields = AgentTypeForm.Meta.fields  # the name first, also where it is only shown
    list_display = ("name", "description", "agents", "concurrency", "takes_prompts", "enabled")
    list_filter = ("enabled",)
    search_fields = ("name", "description")

    @admin.display(description="takes prompts", boolean=True)
    def takes_prompts(self, type: AgentType) -> bool:
        return type.takes_prompts

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name",) if obj else ()  # sorties, plans and queues name it; another name is another type

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # sorties of the past name it; disable it instead


@admin.register(Agent)
class AgentAdmin(ReadOnlyAdmin):
    list_display = ("ref", "name", "type", "coloured_state", "node", "pid", "heard", "lived", "reason")
    list_filter = ("state", "type", "node")
    list_select_related = ("node", "type")
    search_fields = ("reason", "node__name")
    search_help_text = "Words of the reason, a node, or an id (agt_…)"
    id_fields = ("id", "node_id")
    ordering = ("-id",)
    fields = (
        "ref",
        "name",
        "type",
        "state",
        "reason",
        "node",
        "pid",
        "heard",
        "lived",
        "spawned_at",
        "heartbeat_at",
        "ended_at",
    )
    readonly_fields = ("ref", "name", "heard", "lived")

    @admin.display(description="last heard", ordering="heartbeat_at")
    def heard(self, agent: Agent) -> str:
        return ago(agent.heartbeat_at)

    @admin.display(description="age")
    def lived(self, agent: Agent) -> str:
        return between(agent.spawned_at, agent.ended_at)


@admin.register(Node)
class NodeAdmin(ReadOnlyAdmin):
    list_display = ("name", "up", "cordoned", "heard", "pid")
    list_filter = ("up", "cordoned")
    search_fields = ("name",)
    actions = ("cordon", "uncordon")

    @admin.display(description="last heard", ordering="heartbeat_at")
    def heard(self, node: Node) -> str:
        return ago(node.heartbeat_at)

    @admin.action(description="Cordon: no new agents", permissions=["operate"])
    def cordon(self, request: HttpRequest, rows: QuerySet[Node]) -> None:
        why = f"By {request.user} in the admin."
        do(request, rows, lambda row: operations.cordon(node=row.name, on=True, reason=why), "Cordoned")

    @admin.action(description="Uncordon: new agents again", permissions=["operate"])
    def uncordon(self, request: HttpRequest, rows: QuerySet[Node]) -> None:
        why = f"By {request.user} in the admin."
        do(request, rows, lambda row: operations.cordon(node=row.name, on=False, reason=why), "Uncordoned")
