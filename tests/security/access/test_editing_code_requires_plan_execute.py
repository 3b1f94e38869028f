"""Editing what runs code requires plan.execute: templates, and the commands of agent types."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from agents.models import AgentType
from fleet.access import operations
from missions.models import Template
from tests.support import web

pytestmark = pytest.mark.django_db

TEXT = '{mission: x, sorties: {a: {agent: backend, run: ["id"]}}}'
GIVEN = {"name": "mine", "description": "d", "text": TEXT, "folder": "", "enabled": "on"}


@pytest.fixture
def clerk() -> Client:
    rights = ("view_template", "add_template", "change_template", "view_agenttype", "add_agenttype", "change_agenttype")
    return web.staff(*rights)


def grant() -> None:
    operations.set_execute(user=User.objects.get(username="clerk"), allowed=True)


def test_creating_a_template_requires_the_permission(clerk: Client) -> None:
    assert clerk.post("/admin/missions/template/add/", GIVEN).status_code == 403
    assert not Template.objects.exists()
    grant()
    assert clerk.post("/admin/missions/template/add/", GIVEN).status_code == 302
    assert Template.objects.get().name == "mine"


def test_changing_a_template_requires_the_permission(clerk: Client) -> None:
    template = Template.objects.create(name="mine", description="d", text=TEXT.replace("id", "true"))
    page = f"/admin/missions/template/{template.pk}/change/"
    assert clerk.get(page).status_code == 200
    assert clerk.post(page, GIVEN).status_code == 403
    template.refresh_from_db()
    assert "true" in template.text
    grant()
    assert clerk.post(page, GIVEN).status_code == 302


def form(**more: Any) -> dict[str, Any]:
    numbers = {
        "concurrency": "4",
        "agents": "1",
        "max_agents": "1",
        "max_running": "0",
        "memory_mb": "0",
        "disk_mb": "0",
    }
    return {"name": "x", "description": "d", **numbers, "max_duration_s": "0", "enabled": "on", **more}


def test_setting_the_command_of_an_agent_type_requires_the_permission(clerk: Client) -> None:
    kind = AgentType.objects.get(name="backend")
    page = f"/admin/agents/agenttype/{kind.pk}/change/"
    code = {"prompt_argv": '["sh", "-c"]', "env_allow": '["LD_PRELOAD"]', "accepts_external": "on"}
    clerk.post(page, form(**code))
    kind.refresh_from_db()
    assert "LD_PRELOAD" not in kind.env_allow
    assert kind.prompt_argv != ["sh", "-c"]
    assert not kind.accepts_external, "external agents would get the variables of its plans"
    assert kind.description == "d", "they may change settings that run no code"
    grant()
    clerk.post(page, form(**code))
    kind.refresh_from_db()
    assert (kind.prompt_argv, kind.env_allow) == (["sh", "-c"], ["LD_PRELOAD"])
    assert kind.accepts_external
