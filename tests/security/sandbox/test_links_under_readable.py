"""Work cannot read more by replacing a path under `readable` by a link."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse

from agents.models import AgentType
from agents.operations import types
from missions.engine.process.runtime import Engine
from missions.management.commands import fleet_doctor
from missions.models import Attempt, Mission, Template
from tests.support import api, fleet, web
from tests.support.console import manage
from tests.support.work.confined import SECRET

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that an administrator wants to share, inside a folder that work can write to."""
    path = tmp_path / "project" / "shared"
    path.mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text(SECRET)
    return path


def plant(shared: Path) -> None:
    """Replace the folder by a link, as work can do in the folder above."""
    shared.rename(shared.with_name("shared.orig"))
    shared.symlink_to(shared.parents[1] / "secret")


def stored_paths() -> list[str]:
    return list(AgentType.objects.get(name="backend").readable)


def run(engine: Engine, path: Path) -> Attempt:
    mission = fleet.launch({"one": {"run": f"cat {path}/key"}})
    fleet.run_to_end(engine, mission)
    return Attempt.objects.get(sortie__mission=mission)


def test_an_attempt_does_not_follow_a_link_that_work_put_there(engine: Engine, shared: Path) -> None:
    (shared / "key").write_text("public")
    types.change(name="backend", changes={"readable": [str(shared)]})
    assert run(engine, shared).state == "succeeded"
    plant(shared)
    attempt = run(engine, shared)
    assert attempt.state == "failed"
    assert f"{shared} cannot be mounted in the sandbox" in attempt.error
    assert f"{shared} is a symbolic link, and attempts follow none" in attempt.error
    assert "name its target instead under `readable` of the agent type, the template or the plan" in attempt.error
    assert str(shared.parents[1] / "secret") not in attempt.error, "whoever runs missions does not learn the target"


def test_a_link_that_was_stored_is_replaced_by_what_the_doctor_proposes(engine: Engine, shared: Path) -> None:
    (shared / "key").write_text("public")
    types.change(name="backend", changes={"readable": [str(shared)]})
    moved = shared.rename(shared.parents[1] / "moved here")
    shared.symlink_to(moved)  # by the administrator, who moved the folder
    assert run(engine, shared).state == "failed"
    (finding,) = [finding for finding in fleet_doctor._readable() if not finding.healthy]
    assert f"`readable` names {shared}, which contains a symbolic link" in finding.message
    words = shlex.split(finding.remedy.partition(f"{moved}: ")[2])
    assert manage("fleet_agents", *words[words.index("type") :]).code == 0
    assert stored_paths() == [str(moved)]
    assert not list(fleet_doctor._readable())
    mission = fleet.launch({"one": {"run": ["cat", f"{moved}/key"]}})
    assert fleet.run_to_end(engine, mission) == "succeeded"


def test_a_path_is_resolved_when_it_is_saved_and_not_again(shared: Path) -> None:
    link = shared.parents[1] / "link"
    link.symlink_to(shared)
    types.change(name="backend", changes={"readable": [str(link)]})
    assert stored_paths() == [str(shared)]
    plant(shared)
    types.change(name="backend", changes={"readable": [str(shared), "/srv"]})
    assert stored_paths() == [str(shared), os.path.realpath("/srv")]


def test_the_admin_does_not_resolve_a_stored_path_again(shared: Path) -> None:
    boss = web.superuser()
    page = reverse("admin:agents_agenttype_change", args=["backend"])
    form: dict[str, Any] = {
        "description": "d",
        "concurrency": "4",
        "agents": "1",
        "max_agents": "1",
        "max_running": "0",
        "memory_mb": "0",
        "disk_mb": "0",
        "max_duration_s": "0",
        "network": "on",
        "enabled": "on",
        "prompt_argv": "[]",
        "env_allow": "[]",
        "env_secret": "[]",
        "readable": f'["{shared}/../shared"]',
    }
    assert boss.post(page, form).status_code == 302
    assert stored_paths() == [str(shared)]
    plant(shared)
    assert boss.post(page, {**form, "readable": f'["{shared}"]', "description": "e"}).status_code == 302
    assert stored_paths() == [str(shared)]


def test_a_template_does_not_follow_a_link_that_work_put_there(shared: Path) -> None:
    text = f"{{mission: x, readable: [{shared}], sorties: {{one: {{agent: backend, run: ls}}}}}}"
    Template.objects.create(name="shared", text=text)
    plant(shared)
    assert api.person("ann").post("missions", {"template": "shared"}).status_code == 201
    assert Mission.objects.get().readable == [str(shared)]


@pytest.mark.parametrize("relative", [True, False])
def test_a_template_with_a_link_is_refused_with_its_target(shared: Path, relative: bool) -> None:
    plant(shared)
    path = "shared" if relative else str(shared)
    text = f"{{mission: x, readable: [{path}], sorties: {{one: {{agent: backend, run: ls}}}}}}"
    form = {"name": "mine", "description": "d", "text": text, "folder": str(shared.parent), "enabled": "on"}
    boss = web.superuser()
    page = boss.post("/admin/missions/template/add/", form)
    assert page.status_code == 200
    assert f"Write its target: {shared.parents[1]}/secret" in page.content.decode()
    text = text.replace(path, f"{shared}.orig")
    assert boss.post("/admin/missions/template/add/", {**form, "text": text}).status_code == 302
