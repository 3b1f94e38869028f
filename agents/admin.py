"""Agents and nodes to read, agent types to edit."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from agents.models import Agent, AgentType, Node
from fleet.readonly import ReadOnlyAdmin


class AgentTypeForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    class Meta:
        model = AgentType
        fields = ("name", "description", "prompt_argv", "concurrency", "agents", "env_allow", "enabled")

    def clean_prompt_argv(self) -> list[str]:
        return self._words("prompt_argv")

    def clean_env_allow(self) -> list[str]:
        return self._words("env_allow")

    def _words(self, field: str) -> list[str]:
        value = self.cleaned_data[field] or []
        if not isinstance(value, list) or not all(isinstance(word, str) and word for word in value):
            raise forms.ValidationError('Give a JSON list of texts, as ["claude", "-p"].')
        return value


@admin.register(AgentType)
class AgentTypeAdmin(ModelAdmin):  # type: ignore[misc]
    form = AgentTypeForm
    list_display = ("name", "description", "concurrency", "agents", "enabled")
    search_fields = ("name",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # sorties of the past name it; disable it instead


@admin.register(Agent)
class AgentAdmin(ReadOnlyAdmin):
    list_display = ("ref", "type", "node", "pid", "state", "spawned_at", "heartbeat_at", "ended_at", "reason")
    list_filter = ("state", "type", "node")
    list_select_related = ("node",)
    search_fields = ("reason",)


@admin.register(Node)
class NodeAdmin(ReadOnlyAdmin):
    list_display = ("name", "pid", "up", "heartbeat_at")
